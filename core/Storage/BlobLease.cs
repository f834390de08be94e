using Azure;
using Azure.Storage.Blobs.Specialized;
using Polly;

namespace Serverless.Core.Storage;

/// <summary>A lease on a blob, renewed until it is disposed: among many machines one writer wins (Lease Blob).</summary>
public sealed class BlobLease : IAsyncDisposable
{
    private static readonly TimeSpan Duration = TimeSpan.FromSeconds(60), Renewal = TimeSpan.FromSeconds(20), Poll = TimeSpan.FromSeconds(1);
    private readonly BlobLeaseClient lease;
    private readonly ResiliencePipeline network;
    private readonly CancellationTokenSource stop = new();
    private readonly Task renewing;

    private BlobLease(BlobLeaseClient lease, ResiliencePipeline network, bool waited)
    {
        (this.lease, this.network, Waited) = (lease, network, waited);
        renewing = RenewAsync();
    }

    /// <summary>Whether another held it first.</summary>
    public bool Waited { get; }

    /// <summary>Waits for the lease on a blob that exists.</summary>
    internal static async Task<BlobLease> TakeAsync(BlockBlobClient blob, ResiliencePipeline network, Action waiting, CancellationToken cancellation)
    {
        // A fixed id makes an attempt whose answer was lost acquire the same lease again.
        var lease = blob.GetBlobLeaseClient(Guid.NewGuid().ToString());
        for (var said = false; ; said = true)
        {
            try
            {
                await network.ExecuteAsync(async token => await lease.AcquireAsync(Duration, cancellationToken: token), cancellation);
                return new BlobLease(lease, network, said);
            }
            catch (RequestFailedException e) when (e.Status == 409)
            {
                if (!said) waiting();
                await Task.Delay(Poll, cancellation);
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        await renewing;
        stop.Dispose();
        try
        {
            await network.ExecuteAsync(async token => await lease.ReleaseAsync(cancellationToken: token));
        }
        catch (RequestFailedException e) when (e.Status is 404 or 409 or 412)
        {
            // It ran out or the blob is gone: nothing is held any more.
        }
    }

    private async Task RenewAsync()
    {
        using var timer = new PeriodicTimer(Renewal);
        try
        {
            while (await timer.WaitForNextTickAsync(stop.Token))
                await network.ExecuteAsync(async token => await lease.RenewAsync(cancellationToken: token), stop.Token);
        }
        catch (OperationCanceledException)
        {
            // Disposed.
        }
        catch (RequestFailedException)
        {
            // Lost: the work goes on, since its outputs are named by their content and written whole.
        }
    }
}
