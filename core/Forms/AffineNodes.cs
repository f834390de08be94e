using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>Nodes that make levels of the symbols of an affine grid, as floats.</summary>
internal abstract class LevelNodes
{
    /// <summary>Adds the nodes.</summary>
    /// <param name="graph">Receives them.</param>
    /// <param name="grid">The grid.</param>
    /// <param name="codes">The symbols in the shard.</param>
    /// <param name="count">Symbols of the layer, padding included.</param>
    /// <param name="dims">Dimensions of the levels.</param>
    /// <param name="zeros">Adds the nodes of the zero points, once; null where there are none.</param>
    public abstract string Of(ConstantSubgraph graph, AffineGrid grid, ShardRange codes, long count, long[] dims, Lazy<string>? zeros);
}

/// <summary>
/// Plain operators that exist at every opset (Cast, Gather, Mul, Sub, Reshape, Slice, Transpose) over constants, which make the floats of a
/// layer of its levels: ONNX Runtime's constant folding leaves a plain float weight at load. The decoded value keeps the weight's name:
/// nothing that uses it changes, in any scope.
/// </summary>
internal static class AffineNodes
{
    /// <summary>How many terms a layer has, and their grid; that of all of them where there are several.</summary>
    public static (int Terms, AffineGrid Grid) TermsOf(EncodedLayer layer) =>
        Unscaled(layer) is SumGrid sum ? (sum.Terms, sum.All) : (1, (AffineGrid)Unscaled(layer));

    /// <summary>Puts a layer into the graph in the place of its weight.</summary>
    /// <param name="edit">The edit of the model.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="layer">Its encoding.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <param name="levels">Makes the levels.</param>
    public static IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard, LevelNodes levels)
    {
        var (dims, shape) = (weight.Reference.Dims, layer.Shape);
        var (terms, grid) = TermsOf(layer);
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);

        // Where one scale spans a row and rows are stored in order, codes take the weight's own dims and broadcast.
        var plain = grid.Groups == 1 && shape.Inner == 1 && IsPrefix(dims, shape.Outer);
        long[] codeDims = plain ? dims : [shape.Rows, grid.Groups, grid.Group];
        long[] scaleDims = plain ? ScaleDims(dims, shape.Outer) : [shape.Rows, grid.Groups, 1];
        var value = Term(0);
        for (var i = 1; i < terms; i++)
            value = graph.Add("Add", [value, Term(i)]);
        if (!plain)
            value = Shaped(graph, value, grid, shape, dims);
        if (layer.Grid is ScaledGrid { Factors: var f })
        {
            var each = graph.Constant("_f", Form.Tensor(shard, f, FactorDims(dims, shape, f.Range.Length / 2)));
            value = graph.Add("Mul", [value, graph.Cast(each, DataType.Float)]);
        }
        if (weight.Type != (int)DataType.Float)
            graph.Cast(value, (DataType)weight.Type);
        graph.Finish();
        return [weight.Value];

        string Term(int term)
        {
            var each = Unscaled(layer) is SumGrid sum ? sum.Term(term) : grid;
            var zeros = each.Zeros is { } z
                ? new Lazy<string>(() => graph.Cast(graph.Constant("_z", Form.Tensor(shard, z, scaleDims)), DataType.Float))
                : null;
            var value = levels.Of(graph, each, layer.Codes.Part(term, terms), shape.Rows * grid.PaddedAxis, codeDims, zeros);
            // (level − zero point) · scale.
            if (zeros is not null)
                value = graph.Add("Sub", [value, zeros.Value]);
            var scale = graph.Constant("_s", Form.Tensor(shard, each.Scales, scaleDims));
            if (each.Scales.DataType != (int)DataType.Float)
                scale = graph.Cast(scale, DataType.Float);
            return graph.Add("Mul", [value, scale]);
        }
    }

    private static Grid Unscaled(EncodedLayer layer) => layer.Grid is ScaledGrid s ? s.Inner : layer.Grid;

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

    // One a channel of the reduced axis, which may be several of the weight's: of a convolution's [inputs, kernel] the inputs alone.
    private static long[] FactorDims(long[] dims, LayerShape shape, long count)
    {
        var made = Enumerable.Repeat(1L, dims.Length).ToArray();
        var axis = 0;
        for (long outer = 1; outer < shape.Outer; axis++)
            outer *= dims[axis];
        for (long channels = 1; channels < count; axis++)
            channels *= made[axis] = dims[axis];
        return made;
    }
}
