using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// A table of vectors that Gather looks up, and that products may take too: y = h·E, or the scores h·Eᵀ of a model whose output embedding
/// is tied to that of its input.
/// </summary>
/// <param name="Weight">The table, V × E.</param>
internal sealed record EmbeddingTable(Weight Weight)
{
    // ALBERT's vocabulary has 30,000 words of 768; tables of positions have about as many rows as columns.
    private const int LeastRowsPerColumn = 4;
    private const int MostColumns = 4096;

    /// <summary>V.</summary>
    public long Rows => Weight.Reference.Dims[0];

    /// <summary>E.</summary>
    public int Columns => (int)Weight.Reference.Dims[1];

    /// <summary>Whether the output of the model is made with it too.</summary>
    public bool IsTied => Weight.Uses.Any(u => !IsLookup(u));

    /// <summary>The names of the indices that it is looked up at, each with its scope.</summary>
    public IEnumerable<(GraphScope Scope, string Value)> Indices => Weight.Uses.Where(IsLookup).Select(u => (u.Scope, u.Node.Input[1]));

    /// <summary>The tables of a model: matrices of floats that a Gather looks up by their first axis.</summary>
    public static IReadOnlyList<EmbeddingTable> Of(ModelProto model) =>
        [
            .. Weight
                .Of(model)
                .Where(w => w.SkipReason is null && w.Reference.Dims.Length == 2 && w.Uses.Any(IsLookup))
                .Select(w => new EmbeddingTable(w)),
        ];

    /// <summary>Why it cannot be the product of two, or null.</summary>
    public string? WhyNot()
    {
        if (Weight.Cast is not null || (DataType)Weight.Type is not (DataType.Float or DataType.Float16))
            return $"its weights are {DataTypes.Name(Weight.Reference.DataType)}";
        if (Weight.Reference.Dims[1] > MostColumns)
            return $"its vectors are longer than {MostColumns}";
        if (Rows < LeastRowsPerColumn * (long)Columns)
            return $"{Rows} vectors of {Columns} are no vocabulary: fewer than {LeastRowsPerColumn} a column";
        return Weight
            .Uses.Where(u => !IsLookup(u) && !IsScores(u) && !IsProduct(u))
            .Select(u => $"it is used by {u.Op}{(u.Direct ? "" : " behind a layout operator")} too")
            .FirstOrDefault();
    }

    /// <summary>Puts A·B, V × k and k × E, in its place; whatever it ties stays tied.</summary>
    /// <param name="edit">The edit.</param>
    /// <param name="left">A.</param>
    /// <param name="right">B.</param>
    /// <returns>The names of both.</returns>
    public (string Left, string Right) Replace(ModelEdit edit, TensorProto left, TensorProto right)
    {
        ModelEdit.RemoveDefinition(Weight);
        var a = edit.AddConstant(Weight.Scope, $"{Weight.Value}/1", left);
        var b = edit.AddConstant(Weight.Scope, $"{Weight.Value}/2", right);
        foreach (var use in Weight.Uses)
            ModelEdit.Replace(use.Scope, use.Node, [.. Nodes(edit, use, a, b)]);
        return (a, b);
    }

    private static IEnumerable<NodeProto> Nodes(ModelEdit edit, WeightUse use, string a, string b)
    {
        var old = use.Node;
        var between = edit.FreshName($"{old.Output[0]}/1");
        var (first, second) = (old.Clone(), old.Clone());
        if (old.Name.Length > 0)
            first.Name = edit.FreshNodeName($"{old.Name}/1");
        first.Output[0] = between;
        if (IsLookup(use))
        {
            first.Input[0] = a;
            second = ModelEdit.Node("MatMul", [between, b], [old.Output[0]]);
            second.Name = old.Name;
            return [first, second];
        }
        if (use.Op == "MatMul" && !use.Direct)
        {
            // h·Eᵀ = (h·Bᵀ)·Aᵀ.
            var (at, bt) = (edit.FreshName($"{a}/t"), edit.FreshName($"{b}/t"));
            (first.Input[1], second.Input[0], second.Input[1]) = (bt, between, at);
            return [ModelEdit.Node("Transpose", [b], [bt]), first, ModelEdit.Node("Transpose", [a], [at]), second];
        }
        var transposed = use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;
        first.Input[1] = transposed ? b : a;
        (second.Input[0], second.Input[1]) = (between, transposed ? a : b);
        if (use.Op == "Gemm")
        {
            while (first.Input.Count > 2)
                first.Input.RemoveAt(2);
            Keep(first, "transA", "transB");
            Keep(second, "transB", "alpha", "beta");
        }
        return [first, second];
    }

    private static void Keep(NodeProto node, params string[] names)
    {
        var kept = node.Attribute.Where(a => names.Contains(a.Name)).ToList();
        node.Attribute.Clear();
        node.Attribute.AddRange(kept);
    }

    private static bool IsLookup(WeightUse use) =>
        use is { Op: "Gather", Input: 0, Direct: true, Scope.Function: null } && use.IntAttribute("axis", 0) is 0 or -2;

    private static bool IsScores(WeightUse use) =>
        use is { Input: 1, Scope.Function: null, Op: "MatMul", Through: [{ OpType: "Transpose" }] }
        || use is { Input: 1, Scope.Function: null, Op: "Gemm", Direct: true } && use.IntAttribute("transB", 0) != 0;

    private static bool IsProduct(WeightUse use) => use is { Input: 1, Scope.Function: null, Direct: true, Op: "MatMul" or "Gemm" };
}
