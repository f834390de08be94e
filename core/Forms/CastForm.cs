using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>The weight in a shorter float type and a Cast back to its own, which ONNX Runtime folds at load.</summary>
internal static class CastForm
{
    public static void Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        ModelEdit.RemoveDefinition(weight);
        var halves = edit.AddConstant(
            weight.Scope,
            weight.Value + "_h",
            Form.Tensor(shard, layer.Codes, (DataType)layer.CastType, weight.Reference.Dims)
        );
        ModelEdit.InsertFirst(
            weight.Scope,
            [ModelEdit.Node("Cast", [halves], [weight.Value], ModelEdit.Attribute("to", (long)weight.Type))]
        );
    }
}
