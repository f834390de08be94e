using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts operators one behind the other in the place of one whose weight is a product: x·(A·B) = (x·A)·B for MatMul and Gemm, convolutions
/// that have a part of the kernel each, and a MatMul in front of a recurrent layer.
/// </summary>
internal sealed class ProductForm : Form
{
    /// <summary>Why no operators can stand for those that use a weight, or null.</summary>
    public static string? WhyNot(Weight weight)
    {
        var dims = weight.Reference.Dims;
        foreach (var use in weight.Uses)
        {
            var why = (use.Op, use.Input) switch
            {
                _ when !use.Direct => "lies in front of its operator in another layout",
                ("MatMul", 1) or ("Gemm", 1) when dims.Length == 2 => null,
                ("MatMul" or "Gemm", _) => "is no matrix on the right of its product",
                ("Conv", 1) when dims.Length < 3 => "has no kernel",
                ("Conv", 1) when use.IntAttribute("group", 1) != 1 => "is a convolution in groups",
                ("Conv", 1) => null,
                ("LSTM" or "GRU" or "RNN", 1) => null,
                ("LSTM" or "GRU" or "RNN", 2) => $"meets what {use.Op} puts out in the step before, inside the operator",
                _ => $"is used by {use.Op}",
            };
            if (why is not null)
                return why;
        }
        return weight.Uses.Select(u => (StoredOutputsFirst(u), Of: u.Op is "MatMul" or "Gemm" ? "" : u.Op)).Distinct().Count() > 1
            ? "is used in two layouts"
            : null;
    }

    /// <summary>Whether a use's outputs lie along the first axis of the stored weight, as those of Conv and Gemm with transB do.</summary>
    public static bool StoredOutputsFirst(WeightUse use) =>
        use.Op is "Conv" or "LSTM" or "GRU" or "RNN" || use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;

    /// <inheritdoc/>
    public override string Name => FormName.Product;

    /// <summary>Places a layer whose shard holds its factors one behind the other, the one that the input meets first.</summary>
    /// <returns>Names of the factors in this order.</returns>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var bytes = layer.Codes.Length / layer.Factors.Sum(f => f.Elements);
        ModelEdit.RemoveDefinition(weight);
        var names = new List<string>();
        var offset = layer.Codes.Offset;
        foreach (var factor in layer.Factors)
        {
            var range = new ShardRange(offset, bytes * factor.Elements);
            var tensor = Tensor(shard, range, DataType.Float, [.. factor.Dims]);
            names.Add(edit.AddConstant(weight.Scope, $"{weight.Value}/{names.Count + 1}", tensor));
            offset += range.Length;
        }
        foreach (var use in weight.Uses)
            ModelEdit.Replace(use.Scope, use.Node, Chain(edit, use.Node, use.Op, layer.Factors, names));
        return names;
    }

    // The last of the nodes makes the output: bias, alpha and beta are its.
    private static List<NodeProto> Chain(
        ModelEdit edit,
        NodeProto old,
        string op,
        IReadOnlyList<ProductFactor> factors,
        IReadOnlyList<string> names
    )
    {
        var nodes = new List<NodeProto>();
        var input = old.Input[0];
        for (var i = 0; i < factors.Count; i++)
        {
            var last = i == factors.Count - 1;
            var node = new NodeProto(old);
            if (!last)
            {
                node.Input.Clear();
                node.Output.Clear();
                node.Input.AddRange([input, names[i]]);
                node.Output.Add(edit.FreshName($"{old.Output.FirstOrDefault(o => o.Length > 0) ?? names[i]}/{i + 1}"));
                if (old.Name.Length > 0)
                    node.Name = edit.FreshNodeName($"{old.Name}/{i + 1}");
            }
            (node.Input[0], node.Input[1]) = (input, names[i]);
            if (op == "Conv")
                KernelPart.Keep(node, factors[i]);
            else if (op == "Gemm")
                Keep(node, i == 0 ? "transA" : "alpha", last ? "beta" : "", "transB");
            else if (!last)
                (node.OpType, node.Domain) = ("MatMul", "");
            if (!last && op is not ("Conv" or "Gemm"))
                node.Attribute.Clear();
            nodes.Add(node);
            input = node.Output.FirstOrDefault() ?? "";
        }
        return nodes;
    }

    private static void Keep(NodeProto node, params string[] names)
    {
        var kept = node.Attribute.Where(a => names.Contains(a.Name)).ToList();
        node.Attribute.Clear();
        node.Attribute.AddRange(kept);
    }
}
