using System.Buffers;
using Google.Protobuf;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Model;

/// <summary>
/// Reads a model without its weights: walks the protobuf wire format once, keeps the graph, and replaces every
/// large tensor payload by a reference to its byte range in the file. What comes back is a valid ONNX model whose
/// external data is the file itself (ONNX IR: external_data location, offset, length).
/// </summary>
public static class ModelIndexer
{
    /// <summary>Payloads of at least this many bytes stay in the file.</summary>
    public const int InlineLimit = 256;

    private const long SkeletonLimit = 48L << 20;
    private const int FieldLimit = 4_000_000;
    private const int DepthLimit = 90;

    // Objects of a graph take more memory than their few bytes in the file.
    private const long GraphLimit = 256L << 20;

    /// <summary>Indexes the model at <paramref name="path"/>.</summary>
    /// <param name="store">Where the model and its external data are.</param>
    /// <param name="path">The <c>.onnx</c> file.</param>
    /// <param name="cancellation">Cancels the walk.</param>
    /// <exception cref="BadInputException">The file is not a whole, consistent ONNX model.</exception>
    public static async Task<ModelIndex> IndexAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        await using var source = await store.OpenAsync(path, null, cancellation);
        if (source.Artifact.Length == 0)
            throw new BadInputException($"{path}: the file is empty; copy or export it again.");
        using var reader = new WireReader(source);
        var walk = new Walk(reader, StorePath.Name(path));
        var skeleton = await walk.MessageAsync(WireKind.Model, reader.Length, 0, cancellation);
        ModelProto model;
        try
        {
            model = ModelProto.Parser.ParseFrom(skeleton.WrittenSpan);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new BadInputException($"{path}: not an ONNX model: {e.Message.Split('\n')[0].TrimEnd('.')}; copy or export it again.", e);
        }
        return await ModelIndex.CheckAsync(store, path, source.Artifact, model, cancellation);
    }

    private sealed class Walk(WireReader reader, string fileName)
    {
        private readonly List<ArrayBufferWriter<byte>> outputs = [];
        private long kept,
            objects;
        private int fields;

        // What comes back is used before the next message of the same depth is read.
        public async ValueTask<ArrayBufferWriter<byte>> MessageAsync(WireKind kind, long end, int depth, CancellationToken cancellation)
        {
            if (depth > DepthLimit)
                throw reader.Malformed($"nests messages more than {DepthLimit} deep");
            objects += WireSchema.ObjectBytes(kind);
            if (objects > GraphLimit)
                throw reader.Malformed($"holds more nodes, attributes and shapes than fit {GraphLimit >> 20} MB of memory");
            if (outputs.Count == depth)
                outputs.Add(new ArrayBufferWriter<byte>(64));
            var output = outputs[depth];
            output.ResetWrittenCount();
            (long Offset, long Length)? payload = null;
            while (reader.Position < end)
            {
                if (++fields > FieldLimit)
                    throw reader.Malformed($"has more than {FieldLimit} fields in its graph");
                var tag = await reader.VarintAsync(end, cancellation);
                var (field, wire) = (tag >> 3, (int)(tag & 7));
                if (field is 0 or > 0x1fffffff)
                    throw reader.Malformed("has a field number out of range");
                switch (wire)
                {
                    case 0:
                        Varint(output, tag);
                        Varint(output, await reader.VarintAsync(end, cancellation));
                        break;
                    case 1 or 5:
                        Varint(output, tag);
                        await KeepAsync(output, wire == 1 ? 8 : 4, end, cancellation);
                        break;
                    case 2:
                        var length = await reader.VarintAsync(end, cancellation);
                        if (length > (ulong)(end - reader.Position))
                            throw reader.Malformed($"names a field of {length} bytes where {end - reader.Position} are left");
                        var child = WireSchema.Child(kind, (int)field);
                        if (child != WireKind.Leaf)
                        {
                            var inner = await MessageAsync(child, reader.Position + (long)length, depth + 1, cancellation);
                            Varint(output, tag);
                            Varint(output, (ulong)inner.WrittenCount);
                            output.Write(inner.WrittenSpan);
                        }
                        else if (kind == WireKind.Tensor && field is 4 or 9 or 10 && length >= InlineLimit)
                        {
                            if (payload is not null)
                                throw reader.Malformed("stores one tensor in several pieces");
                            payload = (reader.Position, (long)length);
                            reader.Skip((long)length);
                        }
                        else
                        {
                            Varint(output, tag);
                            Varint(output, length);
                            await KeepAsync(output, (long)length, end, cancellation);
                        }
                        break;
                    default:
                        throw reader.Malformed($"has an unknown wire type {wire}");
                }
            }
            if (reader.Position != end)
                throw reader.Malformed("has a field that runs past its message");
            if (payload is var (offset, size))
            {
                var reference = new TensorProto();
                TensorRef.Point(reference, fileName, offset, size);
                output.Write(reference.ToByteArray());
            }
            return output;
        }

        private async Task KeepAsync(ArrayBufferWriter<byte> output, long count, long end, CancellationToken cancellation)
        {
            kept += count;
            if (kept > SkeletonLimit)
                throw reader.Malformed($"keeps more than {SkeletonLimit >> 20} MB outside its weights; store tensors as raw_data");
            if (count > end - reader.Position)
                throw reader.Malformed("ends inside a field");
            await reader.CopyAsync(count, output, cancellation);
        }

        private static void Varint(ArrayBufferWriter<byte> output, ulong value)
        {
            var span = output.GetSpan(10);
            var n = 0;
            while (value >= 0x80)
            {
                span[n++] = (byte)(value | 0x80);
                value >>= 7;
            }
            span[n++] = (byte)value;
            output.Advance(n);
        }
    }
}
