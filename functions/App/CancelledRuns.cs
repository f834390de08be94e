using System.Collections.Concurrent;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.App;

/// <summary>
/// Lets the activities of cancelled runs end, wherever they run: Durable ends orchestrations alone. A cancelled run is a blob
/// (<see cref="RunPaths.Cancelled"/>); while activities run, this process lists these blobs every few seconds.
/// </summary>
/// <param name="store">The store.</param>
public sealed class CancelledRuns(IArtifactStore store) : IDisposable
{
    private readonly ConcurrentDictionary<long, (string Run, CancellationTokenSource Stop)> running = [];
    private readonly SemaphoreSlim looking = new(1);
    private readonly CancellationTokenSource ended = new();
    private HashSet<string> cancelled = [];
    private long looked = long.MinValue / 2,
        last;
    private int watching;

    /// <summary>How old a listing may be.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Runs an activity of a run; when the run is cancelled, the activity is.</summary>
    /// <param name="run">The run, or null when it is of none.</param>
    /// <param name="work">The activity.</param>
    /// <param name="cancellation">Cancels it too.</param>
    /// <exception cref="OperationCanceledException">The run is cancelled.</exception>
    /// <exception cref="IOException">The storage did not answer before the activity began.</exception>
    public async Task<T> RunAsync<T>(string? run, Func<CancellationToken, Task<T>> work, CancellationToken cancellation)
    {
        if (run is null)
            return await work(cancellation);
        if (Interlocked.Exchange(ref watching, 1) == 0)
            _ = WatchAsync();
        // Whoever looks may cancel it at any moment: it is never disposed, and holds nothing.
        var stop = new CancellationTokenSource();
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stop.Token);
        var ticket = Interlocked.Increment(ref last);
        running[ticket] = (run, stop);
        try
        {
            await LookAsync(run, cancellation);
            either.Token.ThrowIfCancellationRequested();
            return await work(either.Token);
        }
        finally
        {
            running.TryRemove(ticket, out _);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        ended.Cancel();
        ended.Dispose();
        looking.Dispose();
    }

    private async Task WatchAsync()
    {
        using var timer = new PeriodicTimer(Interval);
        while (await timer.WaitForNextTickAsync(ended.Token))
        {
            try
            {
                if (!running.IsEmpty)
                    await LookAsync(null, ended.Token);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // The next activity looks before it begins, and fails with it.
            }
        }
    }

    // One looks for all; for a run that was cancelled once more, since it may have been started again.
    private async Task LookAsync(string? about, CancellationToken cancellation)
    {
        await looking.WaitAsync(cancellation);
        try
        {
            if (Environment.TickCount64 - looked >= Interval.TotalMilliseconds || (about is not null && cancelled.Contains(about)))
            {
                var found = new HashSet<string>(StringComparer.Ordinal);
                await foreach (var mark in store.ListAsync(RunPaths.Cancelled(""), cancellation))
                    found.Add(StorePath.Name(mark.Path));
                (cancelled, looked) = (found, Environment.TickCount64);
            }
            foreach (var (run, stop) in running.Values)
                if (cancelled.Contains(run))
                    await stop.CancelAsync();
        }
        finally
        {
            looking.Release();
        }
    }
}
