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

    private static string Table(ConstantSubgraph graph)
    {
        var bits = new byte[256 * 8];
        for (var i = 0; i < bits.Length; i++)
            bits[i] = (byte)(i / 8 >> (i % 8) & 1);
        return graph.Edit.Share(graph.Scope, "bitmap_table", ModelEdit.Tensor(DataType.Uint8, bits, 256, 8));
    }
}
