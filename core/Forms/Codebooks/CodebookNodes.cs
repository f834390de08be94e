using System.Runtime.InteropServices;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Plain operators that exist at every opset (Add, Cast, Gather, Mul, Reshape, Slice, Transpose) over constants, which look the codewords of
/// symbols up: ONNX Runtime's constant folding leaves a plain float weight at load. The decoded value keeps the weight's name.
/// </summary>
internal static class CodebookNodes
{
    /// <summary>Puts a layer into the graph in the place of its weight.</summary>
    /// <param name="edit">The edit of the model.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="layer">Its encoding, of a codebook.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <param name="source">Where the symbols come from.</param>
    public static IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard, SymbolSource source)
    {
        var (grid, shape, dims) = ((CodebookGrid)layer.Grid, layer.Shape, weight.Reference.Dims);
        var (words, d) = (grid.Words(shape), grid.Dimension);
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);
        var symbols = source.Of(graph, grid.Bits, layer.Codes, shape.Rows * words);
        var books = shape.Rows / grid.BookRows;
        var turned = d > 1 && shape.Inner > 1;
        var padded = words * d != shape.Axis;
        if (books > 1)
            symbols = Numbered(graph, symbols, grid, shape, books);
        if (turned)
            symbols = graph.Reshape(symbols, shape.Outer, words, shape.Inner);
        var value = graph.Add("Gather", [Codewords(graph, grid, shard, books), symbols]);
        if (turned)
            value = graph.Add("Transpose", [value], ModelEdit.Attribute("perm", [0L, 1L, 3L, 2L]));
        if (padded)
            value = graph.Slice(graph.Reshape(value, shape.Outer, words * d, shape.Inner), 1, shape.Axis);
        if (grid.Scales is { } scales)
        {
            var each = graph.Constant("_s", Form.Tensor(shard, scales, shape.Outer, 1, shape.Inner));
            if (scales.DataType != (int)DataType.Float)
                each = graph.Cast(each, DataType.Float);
            value = padded ? value : graph.Reshape(value, shape.Outer, shape.Axis, shape.Inner);
            value = graph.Add("Mul", [value, each]);
        }
        value = graph.Reshape(value, dims);
        if (weight.Type != (int)DataType.Float)
            graph.Cast(value, (DataType)weight.Type);
        graph.Finish();
        return [weight.Value];
    }

    // Codebooks lie one after another in one table: a row's symbols count from the first codeword of its own.
    private static string Numbered(ConstantSubgraph graph, string symbols, CodebookGrid grid, LayerShape shape, long books)
    {
        var (rows, words) = (grid.BookRows, grid.Words(shape));
        var whole = shape.Inner == 1 || rows % shape.Inner == 0;
        var firsts = new int[books];
        for (var i = 0; i < firsts.Length; i++)
            firsts[i] = i * grid.Entries;
        long[] dims = whole ? [books, 1] : [shape.Outer, 1, shape.Inner / rows, 1];
        symbols = whole
            ? graph.Reshape(symbols, books, rows * words)
            : graph.Reshape(symbols, shape.Outer, words, shape.Inner / rows, rows);
        var first = graph.Constant("_b", ModelEdit.Tensor(DataType.Int32, MemoryMarshal.AsBytes(firsts.AsSpan()).ToArray(), dims));
        return graph.Reshape(graph.Add("Add", [symbols, first]), -1);
    }

    private static string Codewords(ConstantSubgraph graph, CodebookGrid grid, string shard, long books)
    {
        long[] dims = grid.Dimension == 1 ? [books * grid.Entries] : [books * grid.Entries, grid.Dimension];
        if (grid.Values is not { } values)
            return graph.Edit.Share(graph.Scope, "codebook", ModelEdit.Tensor(grid.Shared!, dims));
        var stored = graph.Constant("_c", Form.Tensor(shard, values, dims));
        return values.DataType == (int)DataType.Float ? stored : graph.Cast(stored, DataType.Float);
    }
}
