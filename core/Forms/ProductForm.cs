using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts two operators in the place of one whose weight is a product: x·(A·B) = (x·A)·B for MatMul and Gemm, and for a convolution one
/// that makes as many channels as the rank, and a 1×1 convolution of these.
/// </summary>
internal sealed class ProductForm : Form
{
    /// <summary>Why no two operators can stand for those that use a weight, or null.</summary>
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
                _ => $"is used by {use.Op}",
            };
            if (why is not null)
                return why;
        }
        return weight.Uses.Select(StoredOutputsFirst).Distinct().Count() > 1 ? "is used in two layouts" : null;
    }

    /// <summary>Whether a use's outputs lie along the first axis of the stored weight, as those of Conv and Gemm with transB do.</summary>
    public static bool StoredOutputsFirst(WeightUse use) => use.Op == "Conv" || use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;

    /// <inheritdoc/>
    public override string Name => FormName.Product;

    /// <summary>Places a layer whose shard holds P, rows × rank, then Q, rank × columns, of the matrix as it is stored.</summary>
    /// <returns>Names of the first factor that the input meets, and of the second.</returns>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var dims = weight.Reference.Dims;
        var (rows, rank) = (dims[0], (long)layer.Rank);
        var columns = weight.Reference.Elements / rows;
        // A kernel of more than one element goes to the convolution that the input meets.
        long[] kernel = [.. dims.Skip(2)],
            ones = [.. kernel.Select(_ => 1L)];
        var bytes = rows * rank * (layer.Codes.Length / (rank * (rows + columns)));
        var (p, q) = (new ShardRange(layer.Codes.Offset, bytes), new ShardRange(layer.Codes.Offset + bytes, layer.Codes.Length - bytes));
        var outputsFirst = StoredOutputsFirst(weight.Uses[0]);
        ModelEdit.RemoveDefinition(weight);
        string Add(int number, ShardRange range, long[] shape) =>
            edit.AddConstant(weight.Scope, $"{weight.Value}/{number}", Form.Tensor(shard, range, DataType.Float, shape));
        var left = Add(outputsFirst ? 2 : 1, p, [rows, rank, .. ones]);
        var right = Add(outputsFirst ? 1 : 2, q, [rank, columns / kernel.Aggregate(1L, (a, b) => a * b), .. kernel]);
        var (first, second) = outputsFirst ? (right, left) : (left, right);
        foreach (var use in weight.Uses)
        {
            var old = use.Node;
            var between = edit.FreshName($"{old.Output[0]}/1");
            var (before, after) = (new NodeProto(old), new NodeProto(old));
            before.Input.Clear();
            before.Input.AddRange([old.Input[0], first]);
            before.Output[0] = between;
            if (old.Name.Length > 0)
                before.Name = edit.FreshNodeName($"{old.Name}/1");
            (after.Input[0], after.Input[1]) = (between, second);
            Split(use.Op, before, after);
            ModelEdit.Replace(use.Scope, old, [before, after]);
        }
        return [first, second];
    }

    // The first takes the input as it is, the second makes the output: bias, alpha and beta are its.
    private static void Split(string op, NodeProto before, NodeProto after)
    {
        if (op == "Gemm")
        {
            Keep(before, "transA", "transB");
            Keep(after, "transB", "alpha", "beta");
        }
        else if (op == "Conv")
        {
            Keep(after, "kernel_shape");
            foreach (var shape in after.Attribute)
                for (var i = 0; i < shape.Ints.Count; i++)
                    shape.Ints[i] = 1;
        }
    }

    private static void Keep(NodeProto node, params string[] names)
    {
        var kept = node.Attribute.Where(a => names.Contains(a.Name)).ToList();
        node.Attribute.Clear();
        node.Attribute.AddRange(kept);
    }
}
