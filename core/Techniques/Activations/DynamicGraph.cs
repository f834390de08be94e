using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Puts <c>com.microsoft.DynamicQuantizeMatMul</c> in the place of MatMul and Gemm, and <c>DynamicQuantizeLSTM</c> in that of
/// an LSTM both of whose weights are int8 (ONNX Runtime ContribOperators.md). An LSTM of which only one is gets it folded.
/// </summary>
/// <param name="edit">The edit.</param>
internal sealed class DynamicGraph(ModelEdit edit) : Lowering
{
    private readonly List<(Weight Weight, EncodedLayer Layer, string Shard)> recurrent = [];

    /// <summary>Places a layer of the dynamic form, or keeps it when its node takes another.</summary>
    public override bool Take(CodedLayer coded)
    {
        var (weight, layer, shard) = (coded.Weight, coded.Layer, coded.Shard);
        if (layer.Form != FormName.Dynamic)
            return false;
        if (weight.Uses[0].Op == "LSTM")
        {
            recurrent.Add((weight, layer, shard));
            return true;
        }
        edit.Import(Form.Microsoft, 1);
        // The kernel takes [inputs, outputs]; torch.nn.Linear has [outputs, inputs]. Folded at load.
        var (codes, scales, zeros) =
            weight.Uses[0].IntAttribute("transB", 0) != 0
                ? Constants(weight, layer, shard, [1, 0], layer.Shape.Rows)
                : Constants(weight, layer, shard, [], layer.Shape.Rows);
        foreach (var use in weight.Uses)
        {
            var old = use.Node;
            var node = ModelEdit.Node($"{Form.Microsoft}:DynamicQuantizeMatMul", [old.Input[0], codes, scales, zeros], [old.Output[0]]);
            if (old.HasName)
                node.Name = old.Name;
            var bias = old.OpType == "Gemm" && old.Input.Count > 2 ? old.Input[2] : "";
            if (bias.Length == 0)
            {
                ModelEdit.Replace(use.Scope, old, [node]);
                continue;
            }
            node.Output[0] = edit.FreshName(old.Output[0] + "_p");
            ModelEdit.Replace(use.Scope, old, [node, ModelEdit.Node("Add", [node.Output[0], bias], [old.Output[0]])]);
        }
        return true;
    }

    /// <summary>Places those that were kept.</summary>
    public override Task FinishAsync(CancellationToken cancellation)
    {
        foreach (var pair in recurrent.GroupBy(r => r.Weight.Uses[0].Node, ReferenceEqualityComparer.Instance))
        {
            var parts = pair.OrderBy(r => r.Weight.Uses[0].Input).ToList();
            if (parts.Count == 2)
                Lstm(parts[0], parts[1]);
            else
                Form.Apply(edit, parts[0].Weight, parts[0].Layer, parts[0].Shard);
        }
        return Task.CompletedTask;
    }

    private void Lstm((Weight Weight, EncodedLayer Layer, string Shard) w, (Weight Weight, EncodedLayer Layer, string Shard) r)
    {
        edit.Import(Form.Microsoft, 1);
        var use = w.Weight.Uses[0];
        var old = use.Node;
        var (x, h) = (Gates(w), Gates(r));
        string Optional(int i) => i < old.Input.Count ? old.Input[i] : "";
        var node = ModelEdit.Node(
            $"{Form.Microsoft}:DynamicQuantizeLSTM",
            [
                old.Input[0],
                x.Codes,
                h.Codes,
                Optional(3),
                Optional(4),
                Optional(5),
                Optional(6),
                Optional(7),
                x.Scales,
                x.Zeros,
                h.Scales,
                h.Zeros,
            ],
            old.Output
        );
        if (old.HasName)
            node.Name = old.Name;
        foreach (var a in old.Attribute.Where(a => a.Name != "layout"))
            node.Attribute.Add(a);
        ModelEdit.Replace(use.Scope, old, [node]);
    }

    // The kernel takes [directions, inputs, gates]; the model has [directions, gates, inputs].
    private (string Codes, string Scales, string Zeros) Gates((Weight Weight, EncodedLayer Layer, string Shard) part) =>
        Constants(part.Weight, part.Layer, part.Shard, [0, 2, 1], part.Weight.Reference.Dims[0], part.Weight.Reference.Dims[1]);

    // Codes are turned round where the kernel wants another order.
    private (string Codes, string Scales, string Zeros) Constants(
        Weight weight,
        EncodedLayer layer,
        string shard,
        long[] order,
        params long[] scaleDims
    )
    {
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);
        var codes = Int8Codes.Add(graph, weight, layer, shard);
        if (order.Length > 0)
            codes = graph.Add("Transpose", [codes], ModelEdit.Attribute("perm", order));
        graph.Insert();
        return (
            codes,
            edit.AddConstant(weight.Scope, weight.Value + "_s", Form.Tensor(shard, ((AffineGrid)layer.Grid).Scales, scaleDims)),
            edit.Share(weight.Scope, "int8_zero", ModelEdit.Tensor(DataType.Int8, new byte[layer.Shape.Rows], scaleDims))
        );
    }
}
