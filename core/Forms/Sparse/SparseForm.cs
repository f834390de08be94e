using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Symbols without those that mean zero, with the places of the others. At load the values are put in their places among zeros, by nodes
/// whose shapes are known beforehand: ONNX Runtime folds such, and no others, to a plain weight. No kernel reads it sparse, so that a run
/// takes the time of float. A unit of zeros is stored in front of the values: places without a value take it.
/// </summary>
internal abstract class SparseForm : Form
{
    /// <summary>The oldest that has CumSum.</summary>
    public const long Oldest = 11;

    /// <summary>
    /// Bytes a weight that ONNX Runtime takes to fold a bitmap of floats: bits, their sums and products as INT32, the values.
    /// </summary>
    public const long BytesWhileLoading = 22;

    private const long MostElements = 32 << 20;

    /// <inheritdoc/>
    public override long OldestOpset => Oldest;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var sparse = layer.Sparse!;
        if (layer.Grid is CodebookGrid)
            return CodebookNodes.Place(edit, weight, layer, shard, new SparseIndices(this, sparse, shard));
        if (layer.Grid is not FloatGrid floats)
            return AffineNodes.Place(edit, weight, layer, shard, new SparseLevels(this, sparse, shard));
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);
        var values = graph.Constant("_v", Tensor(shard, layer.Codes, (DataType)floats.DataType, sparse.Values));
        if (floats.DataType != weight.Type)
            values = graph.Cast(values, (DataType)weight.Type);
        var dense = Dense(graph, sparse, shard, values, weight.Reference.Elements, (DataType)weight.Type);
        graph.Reshape(dense.Values, weight.Reference.Dims);
        graph.Finish();
        return [weight.Value];
    }

    /// <inheritdoc/>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        if (layer.Grid is FloatGrid floats)
        {
            var (values, all) = (new float[layer.Sparse!.Values], new float[layer.Shape.Elements]);
            FloatConversion.ToFloat(shard.Slice((int)layer.Codes.Offset, (int)layer.Codes.Length), floats.DataType, values);
            Spread(layer.Sparse, shard, values, all);
            return Array.ConvertAll(all, v => (double)v);
        }
        if (layer.Grid is CodebookGrid { Bits: var bits })
        {
            var codes = shard.Slice((int)layer.Codes.Offset, (int)layer.Codes.Length);
            var all = new int[layer.Shape.Elements];
            Spread(layer.Sparse!, shard, PackedSymbols.Read(codes, bits, layer.Sparse!.Values), all);
            return CodebookForm.Decode(layer, all, shard);
        }
        var grid = AffineNodes.TermsOf(layer).Grid;
        return layer.Grid.Decode(Symbols(layer, shard, grid, layer.Shape.Rows * grid.PaddedAxis), shard, layer.Shape);
    }

    /// <summary>
    /// Whether putting the weights in their places takes too much memory while the model loads: of more than
    /// 32 million, where <see cref="Store.Small"/> does not ask for the fewest bytes.
    /// </summary>
    public static bool TakesTooMuch(long elements, Store store) => elements > MostElements && store != Store.Small;

    /// <summary>The form of some places.</summary>
    public static SparseForm Of(SparseCodes sparse) => (SparseForm)All[sparse.GapBits == 0 ? FormName.Bitmap : FormName.Gap];

    /// <summary>Reads all symbols of a layer, those that mean zero included: the reference.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="shard">Bytes of its shard.</param>
    /// <param name="grid">What the symbols mean.</param>
    /// <param name="count">Symbols.</param>
    /// <returns>The symbols, counted from the lowest level.</returns>
    public static int[] Symbols(EncodedLayer layer, ReadOnlySpan<byte> shard, AffineGrid grid, long count)
    {
        var zeros = grid.Zeros?.Read(shard);
        var symbols = new int[count];
        for (var i = 0; i < symbols.Length; i++)
            symbols[i] = grid.Middle + (int)(zeros?[i / grid.Group] ?? 0);
        var sparse = layer.Sparse!;
        var values = sparse.Signs ? grid with { Bits = 1 } : grid;
        var read = CodeSymbols.Read(shard.Slice((int)layer.Codes.Offset, (int)layer.Codes.Length), values, sparse.Values);
        if (sparse.Signs)
            read = Array.ConvertAll(read, s => grid.Middle + values.Level(s));
        Spread(sparse, shard, read, symbols);
        return symbols;
    }

    // Behind a unit of zeros, the values of each unit that is stored.
    private static void Spread<T>(SparseCodes sparse, ReadOnlySpan<byte> shard, T[] values, T[] all)
    {
        var places = Of(sparse).Places(sparse, shard.Slice((int)sparse.Mask.Offset, (int)sparse.Mask.Length));
        for (var i = sparse.Unit; i < values.Length; i++)
            all[places[i / sparse.Unit - 1] * sparse.Unit + i % sparse.Unit] = values[i];
    }

    /// <summary>Adds the nodes that put values among zeros.</summary>
    /// <param name="graph">The nodes.</param>
    /// <param name="sparse">The places.</param>
    /// <param name="shard">Store path of them.</param>
    /// <param name="values">The values, one after another, a unit of zeros first.</param>
    /// <param name="count">Values in all.</param>
    /// <param name="type">Their type.</param>
    /// <returns>All values, one after another or unit by unit; and FLOAT ones of the same rank where there is a value, else
    /// zeros.</returns>
    public abstract (string Values, Lazy<string> Mask) Dense(
        ConstantSubgraph graph,
        SparseCodes sparse,
        string shard,
        string values,
        long count,
        DataType type
    );

    /// <summary>Reads the places: the reference.</summary>
    protected abstract IReadOnlyList<long> Places(SparseCodes sparse, ReadOnlySpan<byte> mask);

    /// <summary>Adds the nodes that number the units that hold a value from 1 on, in their order; the others have 0.</summary>
    /// <param name="graph">The nodes.</param>
    /// <param name="held">INT32: 1 or 0.</param>
    protected static string Numbers(ConstantSubgraph graph, string held) =>
        graph.Add("Mul", [graph.Add("CumSum", [held, graph.Edit.Int64s(graph.Scope, 0)]), held]);

    /// <summary>Adds the nodes that take the values of some numbers.</summary>
    protected static string Take(ConstantSubgraph graph, SparseCodes sparse, string values, string numbers) =>
        graph.Add("Gather", [sparse.Unit == 1 ? values : graph.Reshape(values, sparse.Entries + 1, sparse.Unit), numbers]);

    private sealed class SparseLevels(SparseForm form, SparseCodes sparse, string shard) : LevelNodes
    {
        public override string Of(ConstantSubgraph graph, AffineGrid grid, ShardRange codes, long count, long[] dims, Lazy<string>? zeros)
        {
            var values = CodeSymbols.Levels(
                graph,
                sparse.Signs ? grid with { Bits = 1 } : grid,
                shard,
                codes,
                sparse.Values,
                [sparse.Values]
            );
            var dense = form.Dense(graph, sparse, shard, values, count, DataType.Float);
            // No sign means zero: the one in front does not either.
            if (sparse.Signs)
                return graph.Reshape(graph.Add("Mul", [dense.Values, dense.Mask.Value]), dims);
            if (zeros is null)
                return graph.Reshape(dense.Values, dims);
            // The zero point is taken off where there is a value alone: added to the others here, to be taken off all.
            var level = graph.Reshape(dense.Values, dims);
            var without = graph.Add("Sub", [Ones(graph), graph.Reshape(Whole(graph, dense.Mask.Value, count), dims)]);
            return graph.Add("Add", [level, graph.Add("Mul", [without, zeros.Value])]);
        }

        private static string Ones(ConstantSubgraph graph) => graph.Edit.Share(graph.Scope, "one", ModelEdit.Tensor([1f], 1));

        // A number a unit becomes one a symbol.
        private string Whole(ConstantSubgraph graph, string mask, long count) =>
            sparse.Unit == 1
                ? mask
                : graph.Add(
                    "Expand",
                    [graph.Reshape(mask, count / sparse.Unit, 1), graph.Edit.Int64s(graph.Scope, count / sparse.Unit, sparse.Unit)]
                );
    }
}
