using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts <c>com.microsoft.GatherBlockQuantized</c> in the place of Gather over a large embedding (ONNX Runtime
/// ContribOperators.md). Only the rows looked up are decoded, at the cost of some microseconds a run; folding would
/// take the float table's memory, and several times that while loading.
/// </summary>
internal static class GatherForm
{
    public static void Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        edit.Import(Form.Microsoft, 1);
        var (rows, axis) = (layer.Shape.Rows, layer.Shape.Axis);
        ModelEdit.RemoveDefinition(weight);
        var codes = edit.AddConstant(
            weight.Scope,
            weight.Value + "_q",
            Form.Tensor(shard, layer.Codes, DataType.Uint8, rows, axis * layer.Bits / 8)
        );
        var scales = edit.AddConstant(
            weight.Scope,
            weight.Value + "_s",
            Form.Tensor(shard, layer.Scales, DataType.Float, rows, layer.BlocksPerRow)
        );
        var zeros = layer.Zeros is { } z
            ? edit.AddConstant(weight.Scope, weight.Value + "_z", Form.Tensor(shard, z, DataType.Uint8, rows, z.Length / rows))
            : null;
        foreach (var use in weight.Uses)
        {
            var node = ModelEdit.Node(
                $"{Form.Microsoft}:GatherBlockQuantized",
                [codes, use.Node.Input[1], scales],
                [use.Node.Output[0]],
                ModelEdit.Attribute("bits", layer.Bits),
                ModelEdit.Attribute("block_size", layer.Block),
                ModelEdit.Attribute("gather_axis", 0),
                ModelEdit.Attribute("quantize_axis", 1)
            );
            if (use.Node.HasName)
                node.Name = use.Node.Name;
            if (zeros is not null)
                node.Input.Add(zeros);
            ModelEdit.Replace(use.Scope, use.Node, [node]);
        }
    }
}
