using Azure;
using Azure.Storage.Blobs.Specialized;

namespace Serverless.Core.Storage;

/// <summary>
/// Copies a blob within the service (Copy Blob), so that publishing moves no bytes through this machine; where the
/// service refuses, streams it through blocks.
/// </summary>
internal static class BlobCopy
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(200);

    public static async Task CopyAsync(
        BlobStore store,
        StorageCalls calls,
        BlockBlobClient from,
        string fromPath,
        BlockBlobClient to,
        string toPath,
        CancellationToken cancellation
    )
    {
        try
        {
            var container = to.BlobContainerName;
            var copy = await calls.ExecuteAsync(
                token => to.StartCopyFromUriAsync(from.Uri, cancellationToken: token),
                cancellation,
                container,
                Refusal
            );
            while (!copy.HasCompleted)
            {
                await Task.Delay(Poll, cancellation);
                await calls.ExecuteAsync(async token => await copy.UpdateStatusAsync(token), cancellation, container, Refusal);
            }
            if (copy.HasValue)
                return;
        }
        catch (RequestFailedException e) when (Refusal(e))
        {
            // Stream it instead.
        }
        await using var source = await store.OpenAsync(fromPath, null, cancellation);
        await store.WriteAsync(toPath, (stream, token) => source.CopyToAsync(0, source.Artifact.Length, stream, token), cancellation);
    }

    // Another account, a private source, or an emulator without the call.
    private static bool Refusal(RequestFailedException e) => e.Status is 400 or 401 or 403 or 404 or 409 or 501;
}
