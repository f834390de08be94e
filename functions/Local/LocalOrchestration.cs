using System.Collections.Concurrent;
using Polly;
using Polly.Retry;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>
/// Runs an orchestration in this process: activities in parallel up to the number of cores, each result journaled,
/// each failure that may pass tried again. Activities that run models get a process of their own.
/// </summary>
internal sealed class LocalOrchestration : IOrchestration, IDisposable
{
    private static readonly TimeSpan EventPoll = TimeSpan.FromMilliseconds(300);
    private static readonly ResiliencePipeline Retry = new ResiliencePipelineBuilder()
        .AddRetry(
            new RetryStrategyOptions
            {
                MaxRetryAttempts = Retries.MaxAttempts - 1,
                Delay = Retries.FirstPause,
                BackoffType = DelayBackoffType.Exponential,
                UseJitter = true,
                ShouldHandle = new PredicateBuilder().Handle<Exception>(Retries.MayPass),
            }
        )
        .Build();

    private readonly ActivityContext context;
    private readonly Journal journal;
    private readonly LocalDisplay display;
    private readonly ModelProcess? process;
    private readonly SemaphoreSlim cores;
    private readonly CancellationToken cancellation;
    private readonly ConcurrentDictionary<string, List<string>> events = [];
    private int reads;

    /// <summary>Prepares a run.</summary>
    /// <param name="runId">The run.</param>
    /// <param name="context">What activities get.</param>
    /// <param name="journal">Where results are kept.</param>
    /// <param name="display">Receives the status and what is said.</param>
    /// <param name="process">Runs activities that run models; null runs them here.</param>
    /// <param name="concurrency">Activities at a time.</param>
    /// <param name="cancellation">Cancels the run.</param>
    public LocalOrchestration(
        string runId,
        ActivityContext context,
        Journal journal,
        LocalDisplay display,
        ModelProcess? process,
        int concurrency,
        CancellationToken cancellation
    )
    {
        (Id, this.context, this.journal, this.display, this.process, this.cancellation) = (
            runId,
            context,
            journal,
            display,
            process,
            cancellation
        );
        cores = new SemaphoreSlim(concurrency, concurrency);
    }

    public string Id { get; }

    public DateTime UtcNow
    {
        get
        {
            var key = Journal.Key("now", Interlocked.Increment(ref reads));
            if (journal.TryGet<string>(key, out var known))
                return DateTime.Parse(known!, null, System.Globalization.DateTimeStyles.RoundtripKind);
            var now = DateTime.UtcNow;
            journal.Add(key, "now", now.ToString("O"));
            return now;
        }
    }

    public async Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull
    {
        var name = typeof(TActivity).Name;
        var key = Journal.Key(name, input);
        if (journal.TryGet<TOutput>(key, out var known))
            return known!;
        await cores.WaitAsync(cancellation);
        try
        {
            var result = await Retry.ExecuteAsync(
                async token => await Task.Run(() => RunAsync<TActivity, TInput, TOutput>(input, token), token),
                cancellation
            );
            journal.Add(key, name, result);
            return result;
        }
        finally
        {
            cores.Release();
        }
    }

    public Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string id, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull => new TOrchestration().RunAsync(new Part(this, id), input);

    /// <summary>Waits for <c>work/RUN/events/NAME.json</c> to appear in the store; each version of it is taken once.</summary>
    public async Task<string?> WaitForEventAsync(string name, TimeSpan timeout)
    {
        var taken = events.GetOrAdd(name, _ => []);
        var key = Journal.Key("event", $"{name} {taken.Count}");
        if (!journal.TryGet<TakenEvent>(key, out var found))
        {
            found = await PollAsync(RunPaths.Event($"work/{Id}", name), taken, timeout);
            journal.Add(key, "event", found);
        }
        taken.Add(found!.ETag);
        return found.Payload;
    }

    public Task SleepAsync(TimeSpan time) => Task.Delay(time, cancellation);

    public void SetStatus(RunStatus status) => display.Show(status);

    public void Log(string line) => display.Say(line);

    public void Dispose() => cores.Dispose();

    private async Task<TakenEvent> PollAsync(string path, List<string> taken, TimeSpan timeout)
    {
        var file = new EventFile(context.Store, path, display.Say);
        for (var end = DateTime.UtcNow + timeout; ; )
        {
            if (await file.ReadAsync(taken, cancellation) is { } found)
                return found;
            if (DateTime.UtcNow >= end)
                return new TakenEvent("", null);
            await Task.Delay(EventPoll, cancellation);
        }
    }

    private Task<TOutput> RunAsync<TActivity, TInput, TOutput>(TInput input, CancellationToken token)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull =>
        process is not null && typeof(TActivity).IsAssignableTo(typeof(IRunsModels))
            ? process.RunAsync<TInput, TOutput>(typeof(TActivity).Name, input, token)
            : context.RunAsync<TActivity, TInput, TOutput>(input, token);

    // A part shares everything with the whole; only what it shows is counted into the whole.
    private sealed class Part(LocalOrchestration whole, string id) : IOrchestration
    {
        public string Id => whole.Id;

        public DateTime UtcNow => whole.UtcNow;

        public Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
            where TActivity : Activity<TInput, TOutput>
            where TInput : notnull
            where TOutput : notnull => whole.CallAsync<TActivity, TInput, TOutput>(input);

        public Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string part, TInput input)
            where TOrchestration : Orchestration<TInput, TOutput>, new()
            where TInput : notnull
            where TOutput : notnull => whole.CallPartAsync<TOrchestration, TInput, TOutput>(part, input);

        public Task<string?> WaitForEventAsync(string name, TimeSpan timeout) => whole.WaitForEventAsync(name, timeout);

        public Task SleepAsync(TimeSpan time) => whole.SleepAsync(time);

        public void SetStatus(RunStatus status) => whole.display.ShowPart(id, status);

        public void Log(string line) => whole.Log(line);
    }
}
