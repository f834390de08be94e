using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// The int8 codes of a layer for integer kernels, in the weight's own order. Without their zeros they are put together at load: the kernel
/// finds the same constant.
/// </summary>
internal static class Int8Codes
{
    /// <summary>Adds them, with the weight's dimensions.</summary>
    /// <param name="graph">Receives the nodes that put them together.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="layer">The layer, in an integer form.</param>
    /// <param name="shard">Store path of its shard.</param>
    /// <returns>The value that has them, INT8.</returns>
    public static string Add(ConstantSubgraph graph, Weight weight, EncodedLayer layer, string shard)
    {
        if (layer.Sparse is not { } sparse)
            return graph.Constant("_q", Form.Tensor(shard, layer.Codes, DataType.Int8, weight.Reference.Dims));
        var values = graph.Constant("_v", Form.Tensor(shard, layer.Codes, DataType.Int8, sparse.Values));
        var dense = SparseForm.Of(sparse).Dense(graph, sparse, shard, values, weight.Reference.Elements, DataType.Int8);
        return graph.Reshape(dense.Values, weight.Reference.Dims);
    }
}
