using System.Buffers;
using Serverless.Core.Storage;

namespace Serverless.Core.Model;

/// <summary>
/// A forward cursor over protobuf wire bytes of a stored object, through one fixed buffer
/// (Protocol Buffers encoding: base-128 varints, tag = field &lt;&lt; 3 | wire type).
/// </summary>
internal sealed class WireReader(ArtifactReader source, int bufferSize = 1 << 16) : IDisposable
{
    private readonly byte[] buffer = ArrayPool<byte>.Shared.Rent(bufferSize);
    private long bufferStart;
    private int bufferLength;

    /// <summary>Offset of the next byte in the object.</summary>
    public long Position { get; private set; }

    /// <summary>Bytes of the object.</summary>
    public long Length => source.Artifact.Length;

    public async ValueTask<ulong> VarintAsync(long end, CancellationToken cancellation)
    {
        ulong value = 0;
        for (var shift = 0; shift < 70; shift += 7)
        {
            if (Position >= end)
                throw Malformed("ends inside a number");
            if (Position - bufferStart >= bufferLength || Position < bufferStart)
                await FillAsync(cancellation);
            var b = buffer[Position - bufferStart];
            Position++;
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
                return value;
        }
        throw Malformed("has a number of more than ten bytes");
    }

    public async ValueTask CopyAsync(long count, IBufferWriter<byte> destination, CancellationToken cancellation)
    {
        while (count > 0)
        {
            if (Position - bufferStart >= bufferLength || Position < bufferStart)
                await FillAsync(cancellation);
            var at = (int)(Position - bufferStart);
            var take = (int)Math.Min(count, bufferLength - at);
            destination.Write(buffer.AsSpan(at, take));
            Position += take;
            count -= take;
        }
    }

    public void Skip(long count) => Position += count;

    public BadInputException Malformed(string what) =>
        new($"{source.Artifact.Path}: not a whole ONNX model: the file {what} at byte {Position}; copy or export it again.");

    public void Dispose() => ArrayPool<byte>.Shared.Return(buffer);

    private async ValueTask FillAsync(CancellationToken cancellation)
    {
        bufferStart = Position;
        bufferLength = (int)Math.Min(bufferSize, Length - Position);
        if (bufferLength <= 0)
            throw Malformed("ends early");
        await source.ReadAsync(bufferStart, buffer.AsMemory(0, bufferLength), cancellation);
    }
}
