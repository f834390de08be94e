using System.Buffers;
using Azure;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;

namespace Serverless.Core.Storage;

/// <summary>
/// Stages what is written to it as blocks of a blob, several at a time; nothing is visible until it is committed
/// (Put Block, Put Block List; Put Blob for what fits one block). A write may go back and forth within the block not yet staged, which is
/// all that
/// <see cref="Stream.Position"/> and <see cref="Stream.SetLength"/> serve here: to start over, or to go on at the end.
/// </summary>
internal sealed class BlockStream(BlockBlobClient blob, StorageCalls calls, CancellationToken cancellation) : Stream
{
    /// <summary>Bytes of a block: 50,000 of them make 400 GB.</summary>
    public const int BlockSize = 8 << 20;

    private const int Parallel = 4;
    private readonly SemaphoreSlim room = new(Parallel);
    private readonly List<string> blocks = [];
    private readonly List<Task> staging = [],
        abandoned = [];
    private byte[] buffer = ArrayPool<byte>.Shared.Rent(BlockSize);
    private CancellationTokenSource content = CancellationTokenSource.CreateLinkedTokenSource(cancellation);

    // Ids must be new for each content: blocks of an earlier, uncommitted one may still be there, or on their way.
    private string prefix = Guid.NewGuid().ToString("N");
    private int held;
    private long length;
    private bool disposed;

    public override bool CanRead => false;
    public override bool CanSeek => true;
    public override bool CanWrite => true;
    public override long Length => length;

    public override long Position
    {
        get => length;
        set
        {
            if (value != length)
                throw new NotSupportedException("A blob is written from start to end.");
        }
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        while (source.Length > 0)
        {
            var take = Math.Min(source.Length, BlockSize - held);
            source[..take].CopyTo(buffer.AsMemory(held));
            (held, length, source) = (held + take, length + take, source[take..]);
            if (held == BlockSize)
                await StageAsync();
        }
    }

    /// <summary>Appends a range of another blob without its bytes passing through here (Put Block From URL).</summary>
    /// <param name="source">The other blob, signed where that is needed.</param>
    /// <param name="range">The range.</param>
    /// <param name="options">Conditions and authorization, asked for at each attempt.</param>
    /// <param name="mine">Answers that the caller deals with.</param>
    /// <param name="token">Cancels the call.</param>
    public async Task AppendFromAsync(
        Uri source,
        HttpRange range,
        Func<CancellationToken, ValueTask<StageBlockFromUriOptions>> options,
        Func<RequestFailedException, bool> mine,
        CancellationToken token
    )
    {
        if (held > 0)
            await StageAsync();
        var id = NextId();
        await calls.ExecuteAsync(
            async t =>
            {
                var fresh = await options(t);
                fresh.SourceRange = range;
                return await blob.StageBlockFromUriAsync(source, id, fresh, t);
            },
            token,
            blob.BlobContainerName,
            mine
        );
        blocks.Add(id);
        length += range.Length!.Value;
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <summary>Forgets what was written; its uploads are cancelled, its blocks are never committed, and the service drops them.</summary>
    public override void SetLength(long value)
    {
        if (value != 0)
            throw new NotSupportedException("A blob is written from start to end.");
        Abandon();
        content = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        prefix = Guid.NewGuid().ToString("N");
        blocks.Clear();
        (held, length) = (0, 0);
    }

    /// <summary>Makes the blob appear.</summary>
    public async Task<ETag> CommitAsync(CancellationToken token)
    {
        await Settled(abandoned);
        if (blocks.Count == 0)
        {
            var only = await calls.ExecuteAsync(
                t => blob.UploadAsync(new MemoryStream(buffer, 0, held, writable: false), cancellationToken: t),
                token,
                blob.BlobContainerName
            );
            return only.Value.ETag;
        }
        if (held > 0)
            await StageAsync();
        await Task.WhenAll(staging);
        var committed = await calls.ExecuteAsync(
            t => blob.CommitBlockListAsync(blocks, cancellationToken: t),
            token,
            blob.BlobContainerName
        );
        return committed.Value.ETag;
    }

    public override void Flush() { }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("Write asynchronously.");

    public override async ValueTask DisposeAsync()
    {
        if (disposed)
            return;
        disposed = true;
        Abandon();
        // Buffers go back to the pool only when no upload reads them any more.
        await Settled(abandoned);
        ArrayPool<byte>.Shared.Return(buffer);
        room.Dispose();
        await base.DisposeAsync();
    }

    // How they end is no affair of the content that follows.
    private static Task Settled(List<Task> uploads) => Task.WhenAll(uploads).ContinueWith(_ => { }, TaskScheduler.Default);

    private void Abandon()
    {
        content.Cancel();
        content.Dispose();
        abandoned.RemoveAll(t => t.IsCompleted);
        abandoned.AddRange(staging);
        staging.Clear();
    }

    private async Task StageAsync()
    {
        // An upload that failed ends the write here rather than at its end.
        foreach (var done in staging.Where(t => t.IsFaulted).ToList())
            await done;
        staging.RemoveAll(t => t.IsCompletedSuccessfully);
        await room.WaitAsync(cancellation);
        var id = NextId();
        blocks.Add(id);
        var (full, count) = (buffer, held);
        (buffer, held) = (ArrayPool<byte>.Shared.Rent(BlockSize), 0);
        staging.Add(UploadAsync(id, full, count, content.Token));
    }

    private string NextId() => Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes($"{prefix}{blocks.Count:D6}"));

    private async Task UploadAsync(string id, byte[] block, int count, CancellationToken token)
    {
        try
        {
            await calls.ExecuteAsync(
                async t =>
                {
                    using var body = new MemoryStream(block, 0, count, writable: false);
                    return await blob.StageBlockAsync(id, body, cancellationToken: t);
                },
                token,
                blob.BlobContainerName
            );
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
            room.Release();
        }
    }
}
