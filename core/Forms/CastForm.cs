using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>The weight in a shorter float type and a Cast back to its own, which ONNX Runtime folds at load.</summary>
internal sealed class CastForm : Form
{
    /// <inheritdoc/>
    public override string Name => FormName.Cast;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var type = (DataType)((FloatGrid)layer.Grid).DataType;
        ModelEdit.RemoveDefinition(weight);
        var halves = edit.AddConstant(weight.Scope, weight.Value + "_h", Form.Tensor(shard, layer.Codes, type, weight.Reference.Dims));
        ModelEdit.InsertFirst(
            weight.Scope,
            [ModelEdit.Node("Cast", [halves], [weight.Value], ModelEdit.Attribute("to", (long)weight.Type))]
        );
        return [weight.Value];
    }
}
