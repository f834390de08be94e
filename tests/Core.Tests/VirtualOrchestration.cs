using System.Collections.Concurrent;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Runs;

namespace Serverless.TestSupport;

/// <summary>
/// A host whose time passes at once. Activities really run; their inputs and outputs go through JSON, as on any host
/// that writes a history, and their sizes are noted.
/// </summary>
internal sealed class VirtualOrchestration(string id, ActivityContext context) : IOrchestration
{
    private readonly VirtualOrchestration? whole;
    private DateTime now = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    private VirtualOrchestration(string id, VirtualOrchestration whole)
        : this(id, whole.context) => this.whole = whole;

    private readonly ActivityContext context = context;

    /// <summary>Called when the orchestration sleeps, before the time passes.</summary>
    public Func<TimeSpan, Task> Sleeping { get; init; } = _ => Task.CompletedTask;

    /// <summary>Gives the payload of an event that is waited for, or null for none in time.</summary>
    public Func<string, TimeSpan, Task<string?>> Raised { get; init; } = (_, _) => Task.FromResult<string?>(null);

    /// <summary>Called before an activity runs.</summary>
    public Func<string, Task> Before { get; init; } = _ => Task.CompletedTask;

    /// <summary>Gives the output of an activity instead of running it, or null to run it.</summary>
    public Func<string, object, object?> Instead { get; init; } = (_, _) => null;

    public string Id => id;

    public DateTime UtcNow => Whole.now;

    /// <summary>Every time slept.</summary>
    public List<TimeSpan> Slept { get; } = [];

    /// <summary>Every line said.</summary>
    public ConcurrentQueue<string> Lines { get; } = [];

    /// <summary>Every activity called and part begun, in order.</summary>
    public ConcurrentQueue<string> Calls { get; } = [];

    /// <summary>The largest payload in bytes, by what it belongs to.</summary>
    public ConcurrentDictionary<string, int> Largest { get; } = [];

    /// <summary>The status shown last.</summary>
    public RunStatus? Status { get; private set; }

    private VirtualOrchestration Whole => whole ?? this;

    public async Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull
    {
        var name = typeof(TActivity).Name;
        Whole.Calls.Enqueue(name);
        await Whole.Before(name);
        var sent = Through($"{name} in", input);
        var output = Whole.Instead(name, sent) is TOutput given
            ? given
            : await Task.Run(() => context.RunAsync<TActivity, TInput, TOutput>(sent, CancellationToken.None));
        return Through($"{name} out", output);
    }

    public async Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string part, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull
    {
        Whole.Calls.Enqueue(part);
        return Through("part out", await new TOrchestration().RunAsync(new VirtualOrchestration(part, Whole), Through("part in", input)));
    }

    public async Task<string?> WaitForEventAsync(string name, TimeSpan timeout)
    {
        if (await Whole.Raised(name, timeout) is { } payload)
            return payload;
        Whole.now += timeout;
        return null;
    }

    public async Task SleepAsync(TimeSpan time)
    {
        await Whole.Sleeping(time);
        Whole.Slept.Add(time);
        Whole.now += time;
    }

    public void SetStatus(RunStatus status) => Status = Through("status", status);

    public void Log(string line) => Whole.Lines.Enqueue(line);

    private T Through<T>(string what, T value)
    {
        var bytes = JsonSerializer.SerializeToUtf8Bytes(value, Json.Options);
        Whole.Largest.AddOrUpdate(what, bytes.Length, (_, most) => Math.Max(most, bytes.Length));
        return JsonSerializer.Deserialize<T>(bytes, Json.Options)!;
    }
}
