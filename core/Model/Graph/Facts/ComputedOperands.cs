using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>Products with a value that nodes compute of constants alone: a runtime folds it, or a kernel decodes it.</summary>
internal static class ComputedOperands
{
    // Kernels whose weight is stored in integers, with its place among the inputs.
    private static readonly Dictionary<string, int> Integer = new(StringComparer.Ordinal)
    {
        ["MatMulInteger"] = 1,
        ["MatMulIntegerToFloat"] = 1,
        ["DynamicQuantizeMatMul"] = 1,
        ["ConvInteger"] = 1,
        ["QLinearMatMul"] = 3,
        ["QLinearConv"] = 3,
    };

    /// <summary>Counts of a scope.</summary>
    /// <param name="scope">The scope.</param>
    /// <param name="facts">Facts of the model.</param>
    /// <param name="counted">Nodes whose weights are counted already.</param>
    public static IEnumerable<(GraphScope Scope, long Count)> Of(GraphScope scope, GraphFacts facts, IReadOnlySet<object> counted)
    {
        var constants = scope.Constants.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        foreach (var sparse in scope.Graph?.SparseInitializer ?? [])
            constants.Add(sparse.Values?.Name ?? "");
        bool IsConstant(string name) =>
            constants.Contains(name) || (!scope.Defines(name) && scope.Parent is { } parent && Above(parent, name));
        foreach (var node in scope.Nodes)
        {
            var taken = node.Input.Where(i => i.Length > 0).ToList();
            if (GraphScope.Subgraphs(node).Any() || OperatorKinds.IsRandom(node))
                continue;
            if (node.OpType == "Constant" || (taken.Count > 0 && taken.All(IsConstant)))
                constants.UnionWith(node.Output);
            else if (!counted.Contains(node) && Count(node, facts.In(scope), IsConstant) is > 0 and var count)
                yield return (scope, count);
        }
    }

    // A constant of an outer scope, stored there.
    private static bool Above(GraphScope scope, string name) => scope.Resolve(name)?.Constants.Any(t => t.Name == name) == true;

    private static long Elements(ScopeFacts facts, string value) =>
        facts.Shape(value) is { Count: > 1 } ? MultiplyAccumulates.Product(MultiplyAccumulates.Lengths(facts, value)!) : 0;

    private static long Count(NodeProto node, ScopeFacts facts, Func<string, bool> isConstant)
    {
        if (node.Output.Count == 0 || MultiplyAccumulates.Lengths(facts, node.Output[0]) is not { } output)
            return 0;
        if (node.OpType is "ConvTranspose" or "LSTM" or "GRU" or "RNN")
            return MultiplyAccumulates.Positions(node.OpType, MultiplyAccumulates.Lengths(facts, node.Input[0])) is { } positions
                ? MultiplyAccumulates.Times(positions, node.Input.Skip(1).Take(2).Where(isConstant).Sum(i => Elements(facts, i)))
                : 0;
        var length = node.OpType switch
        {
            "MatMulNBits" => node.Int("K", 0),
            var op when Integer.TryGetValue(op, out var at) => at < node.Input.Count && isConstant(node.Input[at])
                ? MultiplyAccumulates.Reduced(
                    node,
                    op.Contains("Conv", StringComparison.Ordinal) ? "Conv" : "MatMul",
                    1,
                    MultiplyAccumulates.Lengths(facts, node.Input[at])
                )
                : null,
            var op => Enumerable
                .Range(0, Math.Min(2, node.Input.Count))
                .Where(i => isConstant(node.Input[i]))
                .Select(i => MultiplyAccumulates.Reduced(node, op, i, MultiplyAccumulates.Lengths(facts, node.Input[i])))
                .FirstOrDefault(l => l is not null),
        };
        return length is { } each ? MultiplyAccumulates.Times(MultiplyAccumulates.Product(output), each) : 0;
    }
}
