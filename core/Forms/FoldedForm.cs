using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

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
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard) =>
        AffineNodes.Place(edit, weight, layer, shard, new DenseLevels(shard, layer.WholeSymbols));

    /// <inheritdoc/>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        var (terms, grid) = AffineNodes.TermsOf(layer);
        var count = layer.Shape.Rows * grid.PaddedAxis;
        var symbols = new List<int>();
        for (var i = 0; i < terms; i++)
        {
            var part = layer.Codes.Part(i, terms);
            var bytes = shard.Slice((int)part.Offset, (int)part.Length);
            symbols.AddRange(CodeSymbols.Read(bytes, grid, count, layer.WholeSymbols));
        }
        return layer.Grid.Decode(symbols.ToArray(), shard, layer.Shape);
    }

    private sealed class DenseLevels(string shard, bool whole) : LevelNodes
    {
        public override string Of(
            ConstantSubgraph graph,
            AffineGrid grid,
            ShardRange codes,
            long count,
            long[] dims,
            Lazy<string>? zeros
        ) => CodeSymbols.Levels(graph, grid, shard, codes, count, dims, whole);
    }

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
