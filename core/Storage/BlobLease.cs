using Azure;
using Azure.Storage.Blobs.Specialized;

namespace Serverless.Core.Storage;

/// <summary>A lease on a blob, renewed until it is disposed: among many machines one writer wins (Lease Blob).</summary>
public sealed class BlobLease : IAsyncDisposable
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);
    private static readonly HoldTimes Usual = new(
        Duration: TimeSpan.FromSeconds(60),
        Interval: TimeSpan.FromSeconds(20),
        Pause: TimeSpan.FromSeconds(1),
        Grace: TimeSpan.FromSeconds(5)
    );
    private readonly BlobLeaseClient lease;
    private readonly StorageCalls calls;
    private readonly HoldTimes times;
    private readonly Renewal renewal;
    private readonly Lazy<Task> ending;

    private BlobLease(BlobLeaseClient lease, StorageCalls calls, HoldTimes times, bool waited)
    {
        (this.lease, this.calls, this.times, Waited) = (lease, calls, times, waited);
        renewal = new Renewal(token => calls.ExecuteAsync(t => lease.RenewAsync(cancellationToken: t), token, mine: IsAnothers), times);
        ending = new Lazy<Task>(EndAsync);
    }

    /// <summary>Whether another held it first.</summary>
    public bool Waited { get; }

    /// <summary>
    /// Cancelled when it could not be renewed in time: another may hold it now. Work may go on, since its outputs are named
    /// by their content and written whole.
    /// </summary>
    public CancellationToken Lost => renewal.Lost;

    /// <summary>Waits for the lease on a blob that exists.</summary>
    internal static async Task<BlobLease> TakeAsync(
        BlockBlobClient blob,
        StorageCalls calls,
        Action waiting,
        CancellationToken cancellation,
        HoldTimes? times = null
    )
    {
        times ??= Usual;
        // A fixed id makes an attempt whose answer was lost acquire the same lease again.
        var lease = blob.GetBlobLeaseClient(Guid.NewGuid().ToString());
        for (var said = false; ; said = true)
        {
            try
            {
                await calls.ExecuteAsync(
                    token => lease.AcquireAsync(times.Duration, cancellationToken: token),
                    cancellation,
                    blob.BlobContainerName,
                    IsHeld
                );
                return new BlobLease(lease, calls, times, said);
            }
            catch (RequestFailedException e) when (IsHeld(e))
            {
                if (!said)
                    waiting();
                await Task.Delay(Poll, cancellation);
            }
        }
    }

    /// <summary>Gives the lease back; when that cannot be done in a few seconds it ends by itself. May be called again.</summary>
    public ValueTask DisposeAsync() => new(ending.Value);

    private async Task EndAsync()
    {
        await renewal.DisposeAsync();
        using var limit = new CancellationTokenSource(times.Grace);
        try
        {
            await calls.ExecuteAsync(token => lease.ReleaseAsync(cancellationToken: token), limit.Token, mine: IsAnothers);
        }
        catch (Exception)
        {
            // Whatever it was, the lease is another's or ends by itself: no failure of the work that is done.
        }
    }

    private static bool IsHeld(RequestFailedException e) => e.Status == 409;

    private static bool IsAnothers(RequestFailedException e) => e.Status is 404 or 409 or 412;
}
