using Polly;
using Polly.Retry;
using Serverless.Core.Pipeline;

namespace Serverless.Local;

/// <summary>
/// Runs an orchestration in this process: activities in parallel up to the number of cores, each result journaled,
/// each failure that may pass tried again. Activities that run models get a process of their own.
/// </summary>
internal sealed class LocalOrchestration : IOrchestration, IDisposable
{
    private static readonly ResiliencePipeline Retry = new ResiliencePipelineBuilder().AddRetry(new RetryStrategyOptions
    {
        MaxRetryAttempts = Retries.MaxAttempts - 1,
        Delay = Retries.FirstPause,
        BackoffType = DelayBackoffType.Exponential,
        UseJitter = true,
        ShouldHandle = new PredicateBuilder().Handle<Exception>(Retries.MayPass),
    }).Build();

    private readonly ActivityContext context;
    private readonly Journal journal;
    private readonly Action<RunStatus> show;
    private readonly ModelProcess? process;
    private readonly SemaphoreSlim cores;

    /// <summary>Prepares a run.</summary>
    /// <param name="runId">The run.</param>
    /// <param name="context">What activities get.</param>
    /// <param name="journal">Where results are kept.</param>
    /// <param name="show">Receives the status.</param>
    /// <param name="process">Runs activities that run models; null runs them here.</param>
    /// <param name="concurrency">Activities at a time.</param>
    /// <param name="cancellation">Cancels the run.</param>
    public LocalOrchestration(
        string runId, ActivityContext context, Journal journal, Action<RunStatus> show, ModelProcess? process, int concurrency, CancellationToken cancellation)
    {
        (RunId, this.context, this.journal, this.show, this.process, Cancellation) = (runId, context, journal, show, process, cancellation);
        cores = new SemaphoreSlim(concurrency, concurrency);
    }

    public string RunId { get; }

    public CancellationToken Cancellation { get; }

    public DateTime UtcNow
    {
        get
        {
            var key = Journal.Key("started", RunId);
            if (journal.TryGet<string>(key, out var known)) return DateTime.Parse(known!, null, System.Globalization.DateTimeStyles.RoundtripKind);
            var now = DateTime.UtcNow;
            journal.Add(key, "started", now.ToString("O"));
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
        if (journal.TryGet<TOutput>(key, out var known)) return known!;
        await cores.WaitAsync(Cancellation);
        try
        {
            var result = await Retry.ExecuteAsync(async token => await Task.Run(() => RunAsync<TActivity, TInput, TOutput>(input, token), token), Cancellation);
            journal.Add(key, name, result);
            return result;
        }
        finally
        {
            cores.Release();
        }
    }

    public async Task<string?> WaitForEventAsync(string name, TimeSpan timeout)
    {
        // Nothing outside this process can raise an event: waiting for one is waiting for the timeout.
        await Task.Delay(timeout, Cancellation);
        return null;
    }

    public void SetStatus(RunStatus status) => show(status);

    public void Dispose() => cores.Dispose();

    private Task<TOutput> RunAsync<TActivity, TInput, TOutput>(TInput input, CancellationToken cancellation)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull =>
        process is not null && typeof(TActivity).IsAssignableTo(typeof(IRunsModels))
            ? process.RunAsync<TInput, TOutput>(typeof(TActivity).Name, input, cancellation)
            : Activator.CreateInstance<TActivity>().RunAsync(input, context, cancellation);
}
