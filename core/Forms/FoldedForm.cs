using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Decodes an affine grid or a sum of them by plain operators that exist at every opset (Cast, Gather, Mul, Sub, Reshape,
/// Slice, Transpose) over constants, so that ONNX Runtime's constant folding leaves a plain float weight at load. The symbols lie packed
/// (<see cref="PackedSymbols"/>) or whole (<see cref="WholeSymbols"/>). The decoded value keeps the weight's name: nothing that uses it
/// changes, in any scope.
/// </summary>
internal sealed class FoldedForm : CodeForm
{
    /// <inheritdoc/>
    public override bool TakesHalfScales => true;

    // The bytes of the nodes and initializers, found by writing them.
    private const int WholeNodes = 120,
        PackedNodes = 215,
        PlaneNodes = 145,
        DefaultBlock = 32;

    /// <inheritdoc/>
    public override string Name => FormName.Folded;

    /// <inheritdoc/>
    public override FormOffer Offer(Weight weight, LayerShape shape, CodeRequest request)
    {
        shape = Joined(shape, request.ShortestBlock);
        var block = Block(shape.Axis, request);
        var count = shape.Rows * ((shape.Axis + block - 1) / block);
        var scaleBytes = count * request.Terms >= HalfScalesFrom ? 2 : 4;
        var parts = BitPacking.Planes(request.Bits).Length * request.Terms;
        var nodes = request.Bits >= 8 ? WholeNodes : PackedNodes + (parts - 1) * PlaneNodes;
        var codes = BitPacking.PlaneBytes(count * block, request.Bits) * request.Terms;
        var bytes = codes + count * (scaleBytes * request.Terms + request.ZeroBytes) + nodes;
        return new FormOffer(this, shape, request.Bits, block, bytes, 1, true) { NodeBytes = nodes };
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var (dims, shape) = (weight.Reference.Dims, layer.Shape);
        var (scaled, inner) = layer.Grid is ScaledGrid s ? (s, s.Inner) : (null, layer.Grid);
        var (sum, grid) = inner is SumGrid t ? (t, t.All) : (null, (AffineGrid)inner);
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);

        // Where one scale spans a row and rows are stored in order, codes take the weight's own dims and broadcast.
        var plain = grid.Groups == 1 && shape.Inner == 1 && IsPrefix(dims, shape.Outer);
        long[] codeDims = plain ? dims : [shape.Rows, grid.Groups, grid.Group];
        long[] scaleDims = plain ? ScaleDims(dims, shape.Outer) : [shape.Rows, grid.Groups, 1];
        var terms = sum?.Terms ?? 1;
        var value = Term(0);
        for (var i = 1; i < terms; i++)
            value = graph.Add("Add", [value, Term(i)]);
        if (!plain)
            value = Shaped(graph, value, grid, shape, dims);
        if (scaled?.Factors is { } f)
        {
            var each = graph.Constant("_f", Tensor(shard, f, FactorDims(dims, shape, f.Range.Length / 2)));
            value = graph.Add("Mul", [value, graph.Cast(each, DataType.Float)]);
        }
        if (weight.Type != (int)DataType.Float)
            graph.Cast(value, (DataType)weight.Type);
        graph.Finish();
        return [weight.Value];

        string Term(int term)
        {
            var each = sum?.Term(term) ?? grid;
            var levels =
                grid.Bits >= 8
                    ? WholeSymbols.Levels(graph, each, shard, layer.Codes, codeDims)
                    : PackedSymbols.Levels(graph, each, shard, layer.Codes.Part(term, terms), shape.Rows * grid.PaddedAxis, codeDims);
            return Floats(graph, each, levels, shard, scaleDims);
        }
    }

    /// <inheritdoc/>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        var inner = layer.Grid is ScaledGrid s ? s.Inner : layer.Grid;
        var (terms, grid) = inner is SumGrid t ? (t.Terms, t.All) : (1, (AffineGrid)inner);
        var count = layer.Shape.Rows * grid.PaddedAxis;
        var symbols = new List<int>();
        for (var i = 0; i < terms; i++)
        {
            var part = layer.Codes.Part(i, terms);
            var bytes = shard.Slice((int)part.Offset, (int)part.Length);
            symbols.AddRange(grid.Bits >= 8 ? WholeSymbols.Read(bytes, grid, count) : PackedSymbols.Read(bytes, grid.Bits, count));
        }
        return layer.Grid.Decode(symbols.ToArray(), shard, layer.Shape);
    }

    // (level − zero point) · scale.
    private static string Floats(ConstantSubgraph graph, AffineGrid grid, string levels, string shard, long[] dims)
    {
        if (grid.Zeros is { } z)
            levels = graph.Add("Sub", [levels, graph.Cast(graph.Constant("_z", Tensor(shard, z, dims)), DataType.Float)]);
        var scale = graph.Constant("_s", Tensor(shard, grid.Scales, dims));
        if (grid.Scales.DataType != (int)DataType.Float)
            scale = graph.Cast(scale, DataType.Float);
        return graph.Add("Mul", [levels, scale]);
    }

    private static string Shaped(ConstantSubgraph graph, string value, AffineGrid grid, LayerShape shape, long[] dims)
    {
        var padded = grid.PaddedAxis != shape.Axis;
        if (padded)
            value = graph.Slice(graph.Reshape(value, shape.Rows, grid.PaddedAxis), 1, shape.Axis);
        if (shape.Inner == 1)
            return graph.Reshape(value, dims);
        var matrix = dims.Length == 2 && shape.Outer == 1;
        if (!(matrix && padded))
            value = matrix ? graph.Reshape(value, shape.Rows, shape.Axis) : graph.Reshape(value, shape.Outer, shape.Inner, shape.Axis);
        if (matrix)
            return graph.Add("Transpose", [value], ModelEdit.Attribute("perm", [1L, 0L]));
        return graph.Reshape(graph.Add("Transpose", [value], ModelEdit.Attribute("perm", [0L, 2L, 1L])), dims);
    }

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

    // Rows of a few weights each would pay a scale for every one: where they lie in order, several make one row.
    private static LayerShape Joined(LayerShape shape, int shortest)
    {
        if (shape.Inner != 1 || shape.Axis >= shortest)
            return shape;
        for (var k = (shortest + shape.Axis - 1) / shape.Axis; k <= shape.Rows && k * shape.Axis < 4L * shortest; k++)
            if (shape.Rows % k == 0)
                return new LayerShape(shape.Rows / k, shape.Axis * k, 1);
        return new LayerShape(1, shape.Elements, 1);
    }

    // The largest divisor of the axis no larger than the group, so that rows need no padding; groups of about equal
    // length when none is near, padded by less than one code each.
    private static int Block(long axis, CodeRequest o)
    {
        var group = o.Bits == 16 ? 0 : o.Group ?? DefaultBlock;
        if (group == 0 || axis <= group)
            return checked((int)axis);
        for (var d = group; d > group / 2; d--)
            if (axis % d == 0)
                return d;
        var blocks = (axis + group - 1) / group;
        return (int)((axis + blocks - 1) / blocks);
    }
}
