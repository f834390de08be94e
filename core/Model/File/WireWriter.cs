namespace Serverless.Core.Model;

/// <summary>Bytes to stream into one tensor's <c>raw_data</c>.</summary>
/// <param name="Message">The tensor without its data, serialised.</param>
/// <param name="Length">Bytes of data.</param>
/// <param name="CopyAsync">Writes exactly that many bytes.</param>
internal sealed record TensorPayload(byte[] Message, long Length, Func<Stream, CancellationToken, Task> CopyAsync);

/// <summary>
/// Writes a protobuf model whose tensor payloads are streamed in from elsewhere: the inverse of
/// <see cref="ModelIndexer"/>. Sizes are found in one pass over the skeleton's bytes and used in a second, so the
/// only memory is the skeleton and one buffer.
/// </summary>
internal sealed class WireWriter
{
    private const ulong RawDataTag = 9 << 3 | 2;
    private readonly ReadOnlyMemory<byte> skeleton;
    private readonly Func<ReadOnlyMemory<byte>, TensorPayload?> payloadOf;
    private readonly List<long> sizes = [];
    private readonly List<TensorPayload?> tensors = [];
    private int nextSize,
        nextTensor;

    /// <summary>Measures the message.</summary>
    /// <param name="skeleton">The model, serialised, with markers in place of payloads.</param>
    /// <param name="payloadOf">The payload of a serialised tensor, or null when it is whole already.</param>
    public WireWriter(ReadOnlyMemory<byte> skeleton, Func<ReadOnlyMemory<byte>, TensorPayload?> payloadOf)
    {
        (this.skeleton, this.payloadOf) = (skeleton, payloadOf);
        Length = Measure(WireKind.Model, skeleton);
    }

    /// <summary>Bytes that <see cref="WriteAsync(Stream, CancellationToken)"/> writes.</summary>
    public long Length { get; }

    /// <summary>Writes the message, once.</summary>
    public Task WriteAsync(Stream output, CancellationToken cancellation) => WriteAsync(WireKind.Model, skeleton, output, cancellation);

    private long Measure(WireKind kind, ReadOnlyMemory<byte> message)
    {
        if (kind == WireKind.Tensor)
        {
            var payload = payloadOf(message);
            tensors.Add(payload);
            return payload is null ? message.Length : payload.Message.Length + 1 + VarintSize((ulong)payload.Length) + payload.Length;
        }
        long total = 0;
        for (var at = 0; at < message.Length; )
        {
            var field = Read(message.Span, at);
            at = field.End;
            if (Inner(kind, field) is not { } child)
            {
                total += field.End - field.Start;
                continue;
            }
            var slot = sizes.Count;
            sizes.Add(0);
            sizes[slot] = Measure(child, message[field.Body..field.End]);
            total += VarintSize(field.Tag) + VarintSize((ulong)sizes[slot]) + sizes[slot];
        }
        return total;
    }

    private async Task WriteAsync(WireKind kind, ReadOnlyMemory<byte> message, Stream output, CancellationToken cancellation)
    {
        if (kind == WireKind.Tensor)
        {
            if (tensors[nextTensor++] is not { } payload)
            {
                await output.WriteAsync(message, cancellation);
                return;
            }
            await output.WriteAsync(payload.Message, cancellation);
            await output.WriteAsync(Varints(RawDataTag, (ulong)payload.Length), cancellation);
            await payload.CopyAsync(output, cancellation);
            return;
        }
        for (var at = 0; at < message.Length; )
        {
            var field = Read(message.Span, at);
            at = field.End;
            if (Inner(kind, field) is not { } child)
            {
                await output.WriteAsync(message[field.Start..field.End], cancellation);
                continue;
            }
            await output.WriteAsync(Varints(field.Tag, (ulong)sizes[nextSize++]), cancellation);
            await WriteAsync(child, message[field.Body..field.End], output, cancellation);
        }
    }

    private readonly record struct Field(ulong Tag, int Start, int Body, int End);

    private static WireKind? Inner(WireKind parent, Field field) =>
        (field.Tag & 7) == 2
        && WireSchema.Child(parent, (int)(field.Tag >> 3)) is var kind
        && kind
            is WireKind.Graph
                or WireKind.Node
                or WireKind.Attribute
                or WireKind.Tensor
                or WireKind.Sparse
                or WireKind.Function
                or WireKind.Training
            ? kind
            : null;

    private static Field Read(ReadOnlySpan<byte> message, int start)
    {
        var at = start;
        var tag = Varint(message, ref at);
        switch (tag & 7)
        {
            case 0:
                Varint(message, ref at);
                return new Field(tag, start, at, at);
            case 1:
                return new Field(tag, start, at, at + 8);
            case 5:
                return new Field(tag, start, at, at + 4);
            default:
                var length = (int)Varint(message, ref at);
                return new Field(tag, start, at, at + length);
        }
    }

    private static ulong Varint(ReadOnlySpan<byte> message, ref int at)
    {
        ulong value = 0;
        for (var shift = 0; ; shift += 7)
        {
            var b = message[at++];
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
                return value;
        }
    }

    private static byte[] Varints(ulong first, ulong second)
    {
        var bytes = new byte[VarintSize(first) + VarintSize(second)];
        var at = 0;
        foreach (var value in (ReadOnlySpan<ulong>)[first, second])
        {
            var v = value;
            for (; v >= 0x80; v >>= 7)
                bytes[at++] = (byte)(v | 0x80);
            bytes[at++] = (byte)v;
        }
        return bytes;
    }

    private static int VarintSize(ulong value) => (System.Numerics.BitOperations.Log2(value | 1) / 7) + 1;
}
