using Google.Protobuf;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using DataType = Serverless.Core.Onnx.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques;

/// <summary>
/// Decodes a block-quantized weight by plain operators that exist at every opset (Cast, Gather, Mul, Sub, Reshape,
/// Slice, Transpose) over constants, so that ONNX Runtime's constant folding leaves a plain float weight at load.
/// Codes below 8 bits are looked up byte-wise in a shared table, which needs neither shifts nor integer division.
/// The decoded value keeps the weight's name: nothing that uses it changes, in any scope.
/// </summary>
internal static class FoldedForm
{
    private const long SliceWithInputs = 10;

    public static void Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var scope = weight.Scope;
        var dims = weight.Reference.Dims;
        var (rows, blocks) = (layer.Shape.Rows, (long)layer.BlocksPerRow);
        var nodes = new List<NodeProto>();
        ModelEdit.RemoveDefinition(weight);

        // Where one scale spans a row and rows are stored in order, codes take the weight's own dims and broadcast.
        var plain = blocks == 1 && layer.Shape.Inner == 1;
        long[] codeDims = plain ? dims : [rows, blocks, layer.Block];
        long[] scaleDims = plain ? ScaleDims(dims, layer.Shape.Outer) : [rows, blocks, 1];

        var value = layer.Bits >= 8 ? Whole() : Packed();
        if (layer.Zeros is { } z)
        {
            var zeros = edit.AddConstant(scope, weight.Value + "_z", Forms.Tensor(shard, z, DataType.Uint8, scaleDims));
            value = Add("Sub", [value, Add("Cast", [zeros], To(DataType.Float))]);
        }
        var scale = edit.AddConstant(scope, weight.Value + "_s", Forms.Tensor(shard, layer.Scales, layer.HalfScales ? DataType.Float16 : DataType.Float, scaleDims));
        if (layer.HalfScales) scale = Add("Cast", [scale], To(DataType.Float));
        value = Add("Mul", [value, scale]);
        if (!plain) value = Shape(value);
        if (weight.Reference.DataType != (int)DataType.Float) Add("Cast", [value], To((DataType)weight.Reference.DataType));
        nodes[^1].Output[0] = weight.Value;
        ModelEdit.InsertFirst(scope, nodes);

        string Whole()
        {
            var codes = edit.AddConstant(scope, weight.Value + "_q", Forms.Tensor(shard, layer.Codes, layer.Bits == 16 ? DataType.Int16 : layer.Symmetric ? DataType.Int8 : DataType.Uint8, codeDims));
            return Add("Cast", [codes], To(DataType.Float));
        }

        string Packed()
        {
            var codes = edit.AddConstant(scope, weight.Value + "_q", Forms.Tensor(shard, layer.Codes, DataType.Uint8, layer.Codes.Length));
            var index = Add("Cast", [codes], To(DataType.Int32));
            var decoded = Add("Gather", [Table(edit, scope, layer.Bits, layer.Symmetric), index]);
            if (layer.Codes.Length * (8 / layer.Bits) != rows * layer.PaddedAxis)
                decoded = Slice(Add("Reshape", [decoded, edit.Int64s(scope, -1)]), 0, rows * layer.PaddedAxis);
            return Add("Reshape", [decoded, edit.Int64s(scope, codeDims)]);
        }

        string Shape(string input)
        {
            var padded = layer.PaddedAxis != layer.Shape.Axis;
            if (padded)
                input = Slice(Add("Reshape", [input, edit.Int64s(scope, rows, layer.PaddedAxis)]), 1, layer.Shape.Axis);
            if (layer.Shape.Inner == 1) return Add("Reshape", [input, edit.Int64s(scope, dims)]);
            var matrix = dims.Length == 2 && layer.Shape.Outer == 1;
            if (!(matrix && padded))
                input = Add("Reshape", [input, matrix ? edit.Int64s(scope, rows, layer.Shape.Axis) : edit.Int64s(scope, layer.Shape.Outer, layer.Shape.Inner, layer.Shape.Axis)]);
            if (matrix) return Add("Transpose", [input], ModelEdit.Attribute("perm", [1L, 0L]));
            input = Add("Transpose", [input], ModelEdit.Attribute("perm", [0L, 2L, 1L]));
            return Add("Reshape", [input, edit.Int64s(scope, dims)]);
        }

        string Slice(string input, long axis, long end) =>
            edit.Opset(scope) >= SliceWithInputs
                ? Add("Slice", [input, edit.Int64s(scope, 0), edit.Int64s(scope, end), edit.Int64s(scope, axis)])
                : Add("Slice", [input], ModelEdit.Attribute("axes", [axis]), ModelEdit.Attribute("ends", [end]), ModelEdit.Attribute("starts", [0L]));

        string Add(string op, string[] inputs, params AttributeProto[] attributes)
        {
            var output = edit.FreshName(weight.Value + "_d");
            nodes.Add(ModelEdit.Node(op, inputs, [output], attributes));
            return output;
        }
    }

    private static AttributeProto To(DataType type) => ModelEdit.Attribute("to", (long)type);

    private static long[] ScaleDims(long[] dims, long outer)
    {
        long product = 1;
        var split = 0;
        while (split < dims.Length && product < outer) product *= dims[split++];
        return [.. dims.Select((d, i) => i < split ? d : 1)];
    }

    // Row b of the table holds the codes that byte b packs, less the middle of the range when symmetric.
    private static string Table(ModelEdit edit, GraphScope scope, int bits, bool symmetric)
    {
        var (per, mask, middle) = (8 / bits, (1 << bits) - 1, symmetric ? 1 << (bits - 1) : 0);
        var values = new float[256 * per];
        for (var b = 0; b < 256; b++)
            for (var k = 0; k < per; k++) values[b * per + k] = (b >> (bits * k) & mask) - middle;
        var tensor = new TensorProto
        {
            DataType = (int)DataType.Float,
            RawData = ByteString.CopyFrom(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values)),
        };
        tensor.Dims.AddRange([256, per]);
        return edit.Share(scope, $"{(symmetric ? "int" : "uint")}{bits}_table", tensor);
    }
}
