using System.IO.Hashing;

namespace Serverless.Core.Storage;

/// <summary>
/// Passes bytes on and hashes them with XXH128 (xxHash 0.8 specification). Written from start to end; it can only start over
/// (<see cref="SetLength"/> of 0).
/// </summary>
internal sealed class HashingStream(Stream inner) : Stream
{
    private readonly XxHash128 hash = new();
    private long length;

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
                throw new NotSupportedException("A checksummed object is written from start to end.");
        }
    }

    /// <summary>The checksum of what was written.</summary>
    public Checksum Checksum => new(length, Convert.ToHexStringLower(hash.GetCurrentHash()));

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        await inner.WriteAsync(source, cancellationToken);
        hash.Append(source.Span);
        length += source.Length;
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void SetLength(long value)
    {
        if (value != 0)
            throw new NotSupportedException("A checksummed object is written from start to end.");
        inner.SetLength(0);
        hash.Reset();
        length = 0;
    }

    public override void Flush() => inner.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("Write asynchronously.");
}
