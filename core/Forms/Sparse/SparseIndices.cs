using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>Symbols of a codebook without those that are 0, put in their places among zeros.</summary>
/// <param name="form">How the places lie.</param>
/// <param name="sparse">The places.</param>
/// <param name="shard">Store path of the shard.</param>
internal sealed class SparseIndices(SparseForm form, SparseCodes sparse, string shard) : SymbolSource
{
    /// <inheritdoc/>
    public override string Of(ConstantSubgraph graph, int bits, ShardRange codes, long count)
    {
        var values = new PackedIndices(shard).Of(graph, bits, codes, sparse.Values);
        return graph.Reshape(form.Dense(graph, sparse, shard, values, count, DataType.Int32).Values, -1);
    }
}
