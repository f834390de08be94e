using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>Places as a bitmap, one bit a unit. At load each byte is looked up in a table of its bits.</summary>
internal sealed class BitmapForm : SparseForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Bitmap;

    /// <inheritdoc/>
    public override (string Values, Lazy<string> Mask) Dense(
        ConstantSubgraph graph,
        SparseCodes sparse,
        string shard,
        string values,
        long count,
        DataType type
    )
    {
        var mask = graph.Constant("_m", Form.Tensor(shard, sparse.Mask, DataType.Uint8, sparse.Mask.Length));
        var bits = graph.Reshape(graph.Add("Gather", [Table(graph), graph.Cast(mask, DataType.Int32)]), -1);
        if (count / sparse.Unit % 8 != 0)
            bits = graph.Slice(bits, 0, count / sparse.Unit);
        var held = graph.Cast(bits, DataType.Int32);
        return (Take(graph, sparse, values, Numbers(graph, held)), new Lazy<string>(() => graph.Cast(held, DataType.Float)));
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<long> Places(SparseCodes sparse, ReadOnlySpan<byte> mask) => [.. SparseLayout.Places(mask.ToArray())];

    // The bits of each byte are computed at load, b / 2^k mod 2: 2 kB that need not be in the file.
    private static string Table(ConstantSubgraph graph)
    {
        var bits = Enumerable.Range(0, 8).Select(k => 1 << k).ToArray();
        var bytes = graph.Add("Range", [Number(0), Number(256), Number(1)]);
        var places = graph.Add("Div", [graph.Reshape(bytes, 256, 1), Share(bits, 8)]);
        return graph.Cast(graph.Add("Mod", [places, Number(2)]), DataType.Uint8);

        string Number(int value) => Share([value]);

        string Share(int[] values, params long[] dims) =>
            graph.Edit.Share(
                graph.Scope,
                "n",
                ModelEdit.Tensor(DataType.Int32, System.Runtime.InteropServices.MemoryMarshal.AsBytes<int>(values), dims)
            );
    }
}
