using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>Puts an encoded layer into the graph in place of its weight.</summary>
public static class Form
{
    internal const string Microsoft = "com.microsoft";

    /// <summary>Applies a layer's storage form.</summary>
    /// <param name="edit">The edit of the model that <paramref name="weight"/> is from.</param>
    /// <param name="weight">The weight to replace.</param>
    /// <param name="layer">Its encoding.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <returns>Names of the values that stand for the weight: its own, or those of its factors.</returns>
    public static IReadOnlyList<string> Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        switch (layer.Form)
        {
            case StorageForm.Folded:
                FoldedForm.Apply(edit, weight, layer, shard);
                break;
            case StorageForm.MatMulNBits:
                MatMulNBitsForm.Apply(edit, weight, layer, shard);
                break;
            case StorageForm.Dense:
                TensorRef.Point(weight.Tensor, ModelWriter.InStore(shard), layer.Codes.Offset, layer.Codes.Length);
                break;
            case StorageForm.Cast:
                CastForm.Apply(edit, weight, layer, shard);
                break;
            case StorageForm.Product:
                return ProductForm.Apply(edit, weight, layer, shard);
            case StorageForm.GatherBlockQuantized:
                GatherForm.Apply(edit, weight, layer, shard);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(layer), layer.Form, "The form takes more than its weight.");
        }
        return [weight.Value];
    }

    /// <summary>A tensor whose bytes are a range of a shard.</summary>
    internal static TensorProto Tensor(string shard, ShardRange range, DataType type, params long[] dims)
    {
        var tensor = new TensorProto { DataType = (int)type };
        tensor.Dims.AddRange(dims);
        TensorRef.Point(tensor, ModelWriter.InStore(shard), range.Offset, range.Length);
        return tensor;
    }
}
