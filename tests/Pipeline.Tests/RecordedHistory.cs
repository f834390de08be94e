using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Runs;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// What an orchestration asked its host for, in order, and what it was told, in the order in which it was told: what a durable host keeps,
/// and all that it has when it goes on with a run elsewhere.
/// </summary>
internal sealed class RecordedHistory
{
    /// <summary>Every activity, part, event and sleep that was asked for, with its input.</summary>
    public List<string> Asked { get; } = [];

    /// <summary>The answers, each to the request of a number; an exception is an answer too.</summary>
    public List<(int Asked, string? Output, Exception? Failure)> Answers { get; } = [];

    /// <summary>How many requests there were before the first answer, and after each.</summary>
    public List<int> AskedBy { get; } = [];

    /// <summary>Lines said.</summary>
    public List<string> Lines { get; } = [];

    /// <summary>Histories of the parts, each with a way to replay it.</summary>
    public List<(RecordedHistory History, Func<IOrchestration, Task<string>> Run, string Id)> Parts { get; } = [];

    /// <summary>The output.</summary>
    public string? Output { get; set; }
}

/// <summary>
/// A host on one thread. Requests wait until <see cref="RunAsync"/> answers them, one at a time; each answer runs the orchestration up to
/// its next requests before the next is given, as on a durable host. What the orchestration waits for beside the host is found out.
/// </summary>
internal sealed class RecordingHost(string id, Func<string, string, Task<string?>>? raised = null) : IOrchestration
{
    private static readonly DateTime Began = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc);
    private readonly List<(Func<Task<string>> Work, TaskCompletionSource<string> Told)> requests = [];

    public RecordedHistory History { get; } = new();

    public string Id => id;

    /// <summary>Gets on with each answer, as the time of a history does.</summary>
    public DateTime UtcNow => Began.AddSeconds(History.Answers.Count);

    /// <summary>What activities get; null where there is only a history to answer from.</summary>
    public ActivityContext? Context { get; init; }

    public Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull
    {
        var json = Written(input);
        return AskAsync<TOutput>(
            $"{typeof(TActivity).Name} {json}",
            async () => Written(await Context!.RunAsync<TActivity, TInput, TOutput>(Read<TInput>(json), CancellationToken.None))
        );
    }

    public Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string part, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull
    {
        var json = Written(input);
        return AskAsync<TOutput>(
            $"{typeof(TOrchestration).Name} {part} {json}",
            async () =>
            {
                async Task<string> Run(IOrchestration host) => Written(await new TOrchestration().RunAsync(host, Read<TInput>(json)));
                var inner = new RecordingHost(part, raised) { Context = Context };
                History.Parts.Add((inner.History, Run, part));
                return await inner.RunAsync(Run);
            }
        );
    }

    public Task<string?> WaitForEventAsync(string name, TimeSpan timeout) =>
        AskAsync<string?>($"event {name} {timeout}", async () => Written(raised is null ? null : await raised(name, $"{timeout}")));

    public Task SleepAsync(TimeSpan time) => AskAsync<bool>($"sleep {time}", () => Task.FromResult("true"));

    public void SetStatus(RunStatus status) { }

    public void Log(string line) => History.Lines.Add(line);

    /// <summary>Runs an orchestration to its end, doing what it asks for, in the order in which it asks.</summary>
    /// <param name="orchestration">The orchestration.</param>
    public async Task<string> RunAsync(Func<IOrchestration, Task<string>> orchestration)
    {
        var run = Begin(orchestration);
        for (var next = 0; !run.IsCompleted; next++)
        {
            if (next == requests.Count)
                throw new InvalidOperationException($"{id} waits for something that it did not ask its host for.");
            try
            {
                Tell(next, await requests[next].Work(), null);
            }
            catch (Exception e) when (e is not InvalidOperationException)
            {
                Tell(next, null, e);
            }
        }
        return History.Output = await run;
    }

    /// <summary>Gives an orchestration some of a history's answers.</summary>
    /// <param name="orchestration">The orchestration.</param>
    /// <param name="history">The history.</param>
    /// <param name="count">How many of its answers.</param>
    /// <returns>The orchestration, run as far as they go.</returns>
    public Task<string> Replay(Func<IOrchestration, Task<string>> orchestration, RecordedHistory history, int count)
    {
        var run = Begin(orchestration);
        foreach (var (asked, output, failure) in history.Answers.Take(count))
        {
            if (asked >= requests.Count || History.Asked[asked] != history.Asked[asked])
                return Task.FromException<string>(new InvalidOperationException($"It did not ask for {history.Asked[asked]}"));
            Tell(asked, output, failure);
        }
        return run;
    }

    /// <summary>Gives an orchestration the answers of a history, whichever request is answered first.</summary>
    /// <param name="orchestration">The orchestration.</param>
    /// <param name="history">The history.</param>
    /// <param name="random">Chooses among the requests that wait.</param>
    public Task<string> ReplayInAnyOrder(Func<IOrchestration, Task<string>> orchestration, RecordedHistory history, Random random)
    {
        var answers = history
            .Answers.GroupBy(a => history.Asked[a.Asked])
            .ToDictionary(g => g.Key, g => new Queue<(int, string? Output, Exception? Failure)>(g));
        var (run, waiting, seen) = (Begin(orchestration), new List<int>(), 0);
        while (!run.IsCompleted)
        {
            for (; seen < requests.Count; seen++)
                waiting.Add(seen);
            if (waiting.Count == 0)
                throw new InvalidOperationException($"{id} waits for something that it did not ask its host for.");
            var next = waiting[random.Next(waiting.Count)];
            waiting.Remove(next);
            if (!answers.TryGetValue(History.Asked[next], out var given) || !given.TryDequeue(out var answer))
                return Task.FromException<string>(new InvalidOperationException($"It asked for {History.Asked[next]}"));
            Tell(next, answer.Output, answer.Failure);
        }
        return run;
    }

    private Task<string> Begin(Func<IOrchestration, Task<string>> orchestration)
    {
        Task<string>? run = null;
        Inline(() => run = orchestration(this));
        History.AskedBy.Add(History.Asked.Count);
        return run!;
    }

    private void Tell(int request, string? output, Exception? failure)
    {
        History.Answers.Add((request, output, failure));
        Inline(() =>
        {
            if (failure is not null)
                requests[request].Told.SetException(failure);
            else
                requests[request].Told.SetResult(output!);
        });
        History.AskedBy.Add(History.Asked.Count);
    }

    // What waits goes on within the call, not somewhere else later.
    private static void Inline(Action action)
    {
        var context = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        try
        {
            action();
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(context);
        }
    }

    private async Task<TOutput> AskAsync<TOutput>(string what, Func<Task<string>> work)
    {
        var told = new TaskCompletionSource<string>();
        History.Asked.Add(what);
        requests.Add((work, told));
        return Read<TOutput>(await told.Task);
    }

    internal static string Written<T>(T value) => JsonSerializer.Serialize(value, Json.Options);

    private static T Read<T>(string json) => JsonSerializer.Deserialize<T>(json, Json.Options)!;
}
