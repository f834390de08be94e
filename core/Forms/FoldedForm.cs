using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Decodes a block-quantized weight by plain operators that exist at every opset (Cast, Gather, Mul, Sub, Reshape,
/// Slice, Transpose) over constants, so that ONNX Runtime's constant folding leaves a plain float weight at load.
/// Codes below 8 bits are looked up byte-wise, plane by plane, in shared tables, which needs neither shifts nor integer division.
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
        var plain = blocks == 1 && layer.Shape.Inner == 1 && IsPrefix(dims, layer.Shape.Outer);
        long[] codeDims = plain ? dims : [rows, blocks, layer.Block];
        long[] scaleDims = plain ? ScaleDims(dims, layer.Shape.Outer) : [rows, blocks, 1];

        var value = Term(0);
        for (var t = 1; t < layer.Terms; t++)
            value = Add("Add", [value, Term(t)]);
        if (!plain)
            value = Shape(value);
        if (layer.InputFactors is { } factors)
        {
            var each = edit.AddConstant(
                scope,
                weight.Value + "_f",
                Form.Tensor(shard, factors, DataType.Float16, FactorDims(dims, layer.Shape, factors.Length / 2))
            );
            value = Add("Mul", [value, Add("Cast", [each], To(DataType.Float))]);
        }
        if (weight.Type != (int)DataType.Float)
            Add("Cast", [value], To((DataType)weight.Type));
        nodes[^1].Output[0] = weight.Value;
        ModelEdit.InsertFirst(scope, nodes);

        string Term(int term)
        {
            var value = layer.Bits >= 8 ? Whole() : Packed(term);
            if (layer.Zeros is { } z)
            {
                var zeros = edit.AddConstant(
                    scope,
                    weight.Value + "_z",
                    Form.Tensor(shard, z, layer.HalfZeros ? DataType.Float16 : DataType.Uint8, scaleDims)
                );
                value = Add("Sub", [value, Add("Cast", [zeros], To(DataType.Float))]);
            }
            var range = Part(layer.Scales, term, layer.Terms);
            var scale = edit.AddConstant(
                scope,
                weight.Value + "_s",
                Form.Tensor(shard, range, layer.HalfScales ? DataType.Float16 : DataType.Float, scaleDims)
            );
            if (layer.HalfScales)
                scale = Add("Cast", [scale], To(DataType.Float));
            return Add("Mul", [value, scale]);
        }

        string Whole()
        {
            var codes = edit.AddConstant(
                scope,
                weight.Value + "_q",
                Form.Tensor(
                    shard,
                    layer.Codes,
                    layer.Bits == 16 ? DataType.Int16
                        : layer.Symmetric ? DataType.Int8
                        : DataType.Uint8,
                    codeDims
                )
            );
            return Add("Cast", [codes], To(DataType.Float));
        }

        string Packed(int term)
        {
            var all = Part(layer.Codes, term, layer.Terms);
            var (count, offset) = (rows * layer.PaddedAxis, all.Offset);
            string? sum = null;
            foreach (var (width, shift) in BitPacking.Planes(layer.Bits))
            {
                var plane = new ShardRange(offset, BitPacking.Bytes(count, width));
                offset += plane.Length;
                var codes = edit.AddConstant(scope, weight.Value + "_q", Form.Tensor(shard, plane, DataType.Uint8, plane.Length));
                var decoded = Add(
                    "Cast",
                    [Add("Gather", [Table(edit, scope, layer, width, shift), Add("Cast", [codes], To(DataType.Int32))])],
                    To(DataType.Float)
                );
                if (plane.Length * (8 / width) != count)
                    decoded = Slice(Add("Reshape", [decoded, edit.Int64s(scope, -1)]), 0, count);
                decoded = Add("Reshape", [decoded, edit.Int64s(scope, codeDims)]);
                sum = sum is null ? decoded : Add("Add", [sum, decoded]);
            }
            return sum!;
        }

        string Shape(string input)
        {
            var padded = layer.PaddedAxis != layer.Shape.Axis;
            if (padded)
                input = Slice(Add("Reshape", [input, edit.Int64s(scope, rows, layer.PaddedAxis)]), 1, layer.Shape.Axis);
            if (layer.Shape.Inner == 1)
                return Add("Reshape", [input, edit.Int64s(scope, dims)]);
            var matrix = dims.Length == 2 && layer.Shape.Outer == 1;
            if (!(matrix && padded))
                input = Add(
                    "Reshape",
                    [
                        input,
                        matrix
                            ? edit.Int64s(scope, rows, layer.Shape.Axis)
                            : edit.Int64s(scope, layer.Shape.Outer, layer.Shape.Inner, layer.Shape.Axis),
                    ]
                );
            if (matrix)
                return Add("Transpose", [input], ModelEdit.Attribute("perm", [1L, 0L]));
            input = Add("Transpose", [input], ModelEdit.Attribute("perm", [0L, 2L, 1L]));
            return Add("Reshape", [input, edit.Int64s(scope, dims)]);
        }

        string Slice(string input, long axis, long end) =>
            scope.Opset >= SliceWithInputs
                ? Add("Slice", [input, edit.Int64s(scope, 0), edit.Int64s(scope, end), edit.Int64s(scope, axis)])
                : Add(
                    "Slice",
                    [input],
                    ModelEdit.Attribute("axes", [axis]),
                    ModelEdit.Attribute("ends", [end]),
                    ModelEdit.Attribute("starts", [0L])
                );

        string Add(string op, string[] inputs, params AttributeProto[] attributes)
        {
            var output = edit.FreshName(weight.Value + "_d");
            nodes.Add(ModelEdit.Node(op, inputs, [output], attributes));
            return output;
        }
    }

    private static AttributeProto To(DataType type) => ModelEdit.Attribute("to", (long)type);

    private static ShardRange Part(ShardRange all, int part, int parts) => new(all.Offset + all.Length / parts * part, all.Length / parts);

    private static bool IsPrefix(long[] dims, long outer)
    {
        long product = 1;
        return outer == 1 || dims.Any(d => (product *= d) == outer);
    }

    private static long[] ScaleDims(long[] dims, long outer)
    {
        long product = 1;
        var split = 0;
        while (split < dims.Length && product < outer)
            product *= dims[split++];
        return [.. dims.Select((d, i) => i < split ? d : 1)];
    }

    // One a channel: for a convolution the axis after the outputs', else the whole reduced axis.
    private static long[] FactorDims(long[] dims, LayerShape shape, long count) =>
        shape.RowAxis(dims) == 0 ? [1, count, .. Enumerable.Repeat(1L, dims.Length - 2)] : [count, 1];

    // Row b of the table holds what the bits of byte b stand for: their place in the code, and for the lowest plane of
    // symmetric codes the middle of the range taken off. One-bit codes mean −1 and +1 when symmetric.
    private static string Table(ModelEdit edit, GraphScope scope, EncodedLayer layer, int width, int shift)
    {
        var (per, mask) = (8 / width, (1 << width) - 1);
        var (step, middle) = (1 << shift, layer.Symmetric && shift == 0 ? 1 << (layer.Bits - 1) : 0);
        if (layer.Symmetric && layer.Bits == 1)
            (step, middle) = (2, 1);
        // A byte an entry: seven tables of floats would be a twentieth of a small model.
        var values = new sbyte[256 * per];
        for (var b = 0; b < 256; b++)
        for (var k = 0; k < per; k++)
            values[b * per + k] = (sbyte)(step * (b >> (width * k) & mask) - middle);
        return edit.Share(
            scope,
            $"bits{width}_table",
            ModelEdit.Tensor(DataType.Int8, System.Runtime.InteropServices.MemoryMarshal.AsBytes<sbyte>(values), 256, per)
        );
    }
}
