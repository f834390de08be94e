using Azure;

namespace Serverless.Core.Storage;

/// <summary>How something is held that ends by itself unless it is renewed.</summary>
/// <param name="Duration">How long it is held after each renewal.</param>
/// <param name="Interval">Time from one renewal to the next.</param>
/// <param name="Pause">Pause after a renewal that failed.</param>
/// <param name="Grace">How long giving it back, and a renewal under way at that time, may take.</param>
internal sealed record HoldTimes(TimeSpan Duration, TimeSpan Interval, TimeSpan Pause, TimeSpan Grace);

/// <summary>
/// Renews a hold until it is stopped. A renewal that fails is tried again while the hold can still be ours; when its duration
/// is over, or the service says that it is another's, it is lost. No failure of the network leaves here as an exception.
/// </summary>
internal sealed class Renewal : IAsyncDisposable
{
    private readonly Func<CancellationToken, Task> renew;
    private readonly HoldTimes times;
    private readonly CancellationTokenSource stop = new(),
        abort = new(),
        lost = new();
    private readonly Task renewing;

    /// <summary>Begins.</summary>
    /// <param name="renew">Renews the hold; throws <see cref="RequestFailedException"/> when it is another's.</param>
    /// <param name="times">When.</param>
    public Renewal(Func<CancellationToken, Task> renew, HoldTimes times)
    {
        (this.renew, this.times, Lost) = (renew, times, lost.Token);
        renewing = RunAsync();
    }

    /// <summary>Cancelled when the hold is lost.</summary>
    public CancellationToken Lost { get; }

    /// <summary>
    /// Stops renewing; a renewal under way may come to its end within <see cref="HoldTimes.Grace"/>. May be called again.
    /// </summary>
    public async Task StopAsync()
    {
        if (!renewing.IsCompleted)
        {
            abort.CancelAfter(times.Grace);
            await stop.CancelAsync();
        }
        await renewing;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        stop.Dispose();
        abort.Dispose();
    }

    private async Task RunAsync()
    {
        var (end, wait) = (DateTime.UtcNow + times.Duration, times.Interval);
        while (await PassedAsync(wait))
        {
            var begun = DateTime.UtcNow;
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(abort.Token);
            limit.CancelAfter(end > begun ? end - begun : TimeSpan.Zero);
            try
            {
                await renew(limit.Token);
                (end, wait) = (begun + times.Duration, times.Interval);
                continue;
            }
            catch (RequestFailedException)
            {
                // Another's: not to be had back.
                end = DateTime.MinValue;
            }
            catch (Exception)
            {
                // Whatever it was, the hold lasts until its end; asked again until then.
                wait = times.Pause;
            }
            if (DateTime.UtcNow + wait < end)
                continue;
            if (!stop.IsCancellationRequested)
                await lost.CancelAsync();
            return;
        }
    }

    private async Task<bool> PassedAsync(TimeSpan time)
    {
        await Task.Delay(time, stop.Token).ContinueWith(_ => { }, TaskScheduler.Default);
        return !stop.IsCancellationRequested;
    }
}
