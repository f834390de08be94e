using System.Collections.Concurrent;
using Serverless.Core.Pipeline;
using Serverless.Core.Storage;

namespace Serverless.App;

/// <summary>
/// Lets the activities of cancelled runs end, wherever they run: Durable ends orchestrations alone. A cancelled run is a blob
/// (<see cref="RunNames.Cancelled"/>); while activities run, this process lists these blobs every few seconds.
/// </summary>
/// <param name="store">The store.</param>
public sealed class CancelledRuns(IArtifactStore store) : IDisposable
{
    private readonly ConcurrentDictionary<long, (string Run, CancellationTokenSource Stop)> running = [];
    private readonly SemaphoreSlim looking = new(1);
    private HashSet<string> cancelled = [];
    private long looked = long.MinValue / 2, last;

    /// <summary>How old a listing may be.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Runs an activity of a run; when the run is cancelled, the activity is.</summary>
    /// <param name="run">The run, or null when it is of none.</param>
    /// <param name="work">The activity.</param>
    /// <param name="cancellation">Cancels it too.</param>
    /// <exception cref="OperationCanceledException">The run is cancelled.</exception>
    public async Task<T> RunAsync<T>(string? run, Func<CancellationToken, Task<T>> work, CancellationToken cancellation)
    {
        if (run is null) return await work(cancellation);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var ticket = Interlocked.Increment(ref last);
        running[ticket] = (run, stop);
        using var ended = new CancellationTokenSource();
        try
        {
            await LookAsync(cancellation);
            stop.Token.ThrowIfCancellationRequested();
            var doing = work(stop.Token);
            while (await Task.WhenAny(doing, Task.Delay(Interval, ended.Token)) != doing) await LookAsync(cancellation);
            return await doing;
        }
        finally
        {
            running.TryRemove(ticket, out _);
            await ended.CancelAsync();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => looking.Dispose();

    // One of those that run looks for all.
    private async Task LookAsync(CancellationToken cancellation)
    {
        await looking.WaitAsync(cancellation);
        try
        {
            if (Environment.TickCount64 - looked >= Interval.TotalMilliseconds)
            {
                var found = new HashSet<string>(StringComparer.Ordinal);
                await foreach (var mark in store.ListAsync(RunNames.Cancelled(""), cancellation)) found.Add(StorePath.Name(mark.Path));
                (cancelled, looked) = (found, Environment.TickCount64);
            }
            foreach (var (run, stop) in running.Values)
                if (cancelled.Contains(run)) await stop.CancelAsync();
        }
        finally
        {
            looking.Release();
        }
    }
}
