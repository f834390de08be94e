using System.Buffers;
using Azure;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;

namespace Serverless.Core.Storage;

/// <summary>
/// Ranged reads of one version of a blob, one at a time, in few calls: a blob of up to <see cref="Whole"/> bytes is fetched at once, and
/// of a larger one that is read in order the more ahead the longer that goes on.
/// </summary>
internal sealed class BlobReader(Artifact artifact, BlockBlobClient blob, StorageCalls calls, ServerSideRanges ranges)
    : ArtifactReader(artifact)
{
    /// <summary>Largest blob that is fetched at once, and the longest range that is fetched ahead.</summary>
    public const int Whole = MostHeld;

    private const int FirstAhead = 64 << 10,
        LargestGap = 64 << 10;
    private byte[]? window;
    private long windowStart,
        next = -1;
    private int windowLength,
        ahead;

    /// <summary>Opens whatever version there is, or one that this process has not seen, and fetches its first bytes: one call.</summary>
    /// <param name="path">The blob.</param>
    /// <param name="etag">The version expected, or null.</param>
    /// <param name="blob">The client.</param>
    /// <param name="calls">Calls to the account.</param>
    /// <param name="ranges">Copies within the service.</param>
    /// <param name="cancellation">Cancels the call.</param>
    /// <returns>The reader; null when the blob is empty, of which no range can be asked.</returns>
    /// <exception cref="BadInputException">Missing, or another version.</exception>
    public static async Task<BlobReader?> OpenAsync(
        string path,
        string? etag,
        BlockBlobClient blob,
        StorageCalls calls,
        ServerSideRanges ranges,
        CancellationToken cancellation
    )
    {
        try
        {
            return await calls.ExecuteAsync(
                async token =>
                {
                    var response = await blob.DownloadStreamingAsync(Options(0, Whole, etag), token);
                    await using var content = response.Value.Content;
                    var details = response.Value.Details;
                    var reader = new BlobReader(new Artifact(path, LengthOf(details), BlobStore.Tag(details.ETag)), blob, calls, ranges);
                    try
                    {
                        await reader.FillAsync(0, (int)details.ContentLength, content, token);
                        return reader;
                    }
                    catch
                    {
                        await reader.DisposeAsync();
                        throw;
                    }
                },
                cancellation,
                blob.BlobContainerName,
                e => e.Status is 404 or 412 or 416
            );
        }
        catch (RequestFailedException e) when (e.Status == 404)
        {
            throw BlobStore.Missing(path);
        }
        catch (RequestFailedException e) when (e.Status == 412)
        {
            throw BlobStore.Changed(path);
        }
        catch (RequestFailedException e) when (e.Status == 416)
        {
            return null;
        }
    }

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellation)
    {
        if (destination.Length == 0)
            return;
        if (offset < 0 || offset + destination.Length > Artifact.Length)
            throw new EndOfStreamException($"{Artifact.Path} ends at {Artifact.Length}.");
        if (offset < windowStart || offset + destination.Length > windowStart + windowLength)
        {
            ahead = next >= 0 && offset >= next && offset - next <= LargestGap ? Math.Clamp(2 * ahead, FirstAhead, Whole) : 0;
            var (start, length) =
                Artifact.Length <= Whole
                    ? (0, Artifact.Length)
                    : (offset, Math.Max(destination.Length, Math.Min(ahead, Artifact.Length - offset)));
            next = offset + destination.Length;
            if (length == destination.Length)
            {
                await FetchAsync(start, length, (content, token) => content.ReadExactlyAsync(destination, token), cancellation);
                return;
            }
            await FetchAsync(start, length, (content, token) => FillAsync(start, (int)length, content, token), cancellation);
        }
        next = offset + destination.Length;
        window.AsMemory((int)(offset - windowStart), destination.Length).CopyTo(destination);
    }

    public override async Task CopyToAsync(long offset, long length, Stream output, CancellationToken cancellation)
    {
        if (offset < 0 || offset + length > Artifact.Length)
            throw new EndOfStreamException($"{Artifact.Path} ends at {Artifact.Length}.");
        if (output is not BlockStream blocks || !await ranges.TryAppendAsync(blocks, blob, Artifact, offset, length, cancellation))
            await base.CopyToAsync(offset, length, output, cancellation);
    }

    public override ValueTask DisposeAsync()
    {
        if (window is { } buffer)
            ArrayPool<byte>.Shared.Return(buffer);
        (window, windowLength) = (null, 0);
        return ValueTask.CompletedTask;
    }

    private static BlobDownloadOptions Options(long offset, long length, string? etag) =>
        new()
        {
            Range = new HttpRange(offset, length),
            Conditions = etag is null ? null : new BlobRequestConditions { IfMatch = new ETag(etag) },
        };

    // Content-Range: bytes 0-99/1000
    private static long LengthOf(BlobDownloadDetails details) =>
        details.ContentRange is { } range && range.IndexOf('/') is var slash and >= 0
            ? long.Parse(range.AsSpan(slash + 1), System.Globalization.CultureInfo.InvariantCulture)
            : details.ContentLength;

    private async Task FetchAsync(long offset, long length, Func<Stream, CancellationToken, ValueTask> read, CancellationToken cancellation)
    {
        try
        {
            await calls.ExecuteAsync(
                async token =>
                {
                    var response = await blob.DownloadStreamingAsync(Options(offset, length, Artifact.ETag), token);
                    await using var content = response.Value.Content;
                    await read(content, token);
                    return true;
                },
                cancellation,
                blob.BlobContainerName,
                IsAnother
            );
        }
        catch (RequestFailedException e) when (IsAnother(e))
        {
            throw BlobStore.Changed(Artifact.Path);
        }

        static bool IsAnother(RequestFailedException e) => e.Status is 412 or 404 or 416;
    }

    private async ValueTask FillAsync(long start, int length, Stream content, CancellationToken cancellation)
    {
        windowLength = 0;
        if (window is null || window.Length < length)
        {
            if (window is { } old)
                ArrayPool<byte>.Shared.Return(old);
            window = null;
            window = ArrayPool<byte>.Shared.Rent(length);
        }
        await content.ReadExactlyAsync(window.AsMemory(0, length), cancellation);
        (windowStart, windowLength) = (start, length);
    }
}
