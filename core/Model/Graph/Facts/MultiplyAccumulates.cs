using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Multiply-accumulates that a run of a model takes with each stored weight: elements of the weight times the positions it is applied
/// at. Products, convolutions, recurrent layers and attention projections count; look-ups and elementwise operators take none. Products
/// of two activations are not counted.
/// </summary>
public static class MultiplyAccumulates
{
    /// <summary>Stands for operands that nodes compute of constants; no weight has this name.</summary>
    public const string Computed = "";

    /// <summary>Counts by weight.</summary>
    /// <param name="model">The model, indexed.</param>
    /// <param name="inputs">
    /// What is known of each input. An axis whose length follows from neither these nor the model counts as one position; of an If whose
    /// condition does not follow, the branch that takes more is counted.
    /// </param>
    /// <returns>
    /// Multiply-accumulates by the weight's name; under <see cref="Computed"/> those with what nodes compute of constants alone, as decoded
    /// codes and normalized weights.
    /// </returns>
    public static IReadOnlyDictionary<string, long> Of(ModelProto model, IReadOnlyDictionary<string, KnownInput> inputs)
    {
        var sized = KnownInput.GiveAll(model, inputs);
        var roots = GraphScope.Of(sized);
        var facts = new GraphFacts(sized, roots);
        var weights = Weight.Of(sized, roots);
        var uses = weights.Select(w => (w.Name, Uses: Operands(w).Select(u => (u.Scope, Count: Of(w, u, facts))).ToList())).ToList();
        var counted = weights.SelectMany(w => w.Uses).Select(u => u.Node).ToHashSet<object>(ReferenceEqualityComparer.Instance);
        uses.Add(
            (
                Computed,
                [.. roots.SelectMany(r => r.All()).SelectMany(s => ComputedOperands.Of(s, facts, counted)).Select(c => (c.Scope, c.Count))]
            )
        );
        var runs = new ScopeRuns(facts, uses.SelectMany(w => w.Uses).ToLookup(u => u.Scope, u => u.Count));
        return uses.ToDictionary(w => w.Name, w => Total(w.Uses.Select(u => Times(u.Count, runs.Of(u.Scope)))), StringComparer.Ordinal);
    }

    /// <summary>Adds counts; those of a model whose shapes are absurd end at the largest number.</summary>
    public static long Total(IEnumerable<long> counts) => counts.Aggregate(0L, (a, b) => (long)Int128.Min((Int128)a + b, long.MaxValue));

    // One joined from several slices of the weight is one operand.
    private static IEnumerable<WeightUse> Operands(Weight weight) =>
        weight.Uses.GroupBy<WeightUse, object>(u => u.Node, ReferenceEqualityComparer.Instance).SelectMany(g => g.DistinctBy(u => u.Input));

    private static long Of(Weight weight, WeightUse use, GraphFacts facts)
    {
        var (node, scope) = (use.Node, facts.In(use.Scope));
        var (operand, output) = (Lengths(scope, node.Input[use.Input]), node.Output.Count == 0 ? null : Lengths(scope, node.Output[0]));
        var reduced = Reduced(node, use.Op.Split('.')[^1], use.Input, operand);
        if (reduced is { } length && output is not null)
            return Share(Times(Product(output), length));
        return (use.Op.Split('.')[^1], use.Input) switch
        {
            ("ConvTranspose" or "Attention" or "QAttention", 1) or ("LSTM" or "GRU" or "RNN", 1 or 2) => Times(
                Positions(use.Op.Split('.')[^1], Lengths(scope, node.Input[0])) ?? 1,
                weight.Reference.Elements
            ),
            ("MatMul" or "FusedMatMul" or "Gemm" or "FusedGemm", 0 or 1) or ("Conv" or "FusedConv" or "DeformConv", 1) or ("Einsum", _) =>
                weight.Reference.Elements,
            _ => 0,
        };

        // Of an operand joined from several weights.
        long Share(long count) =>
            Product(operand!) is var elements && elements > weight.Reference.Elements
                ? (long)((Int128)count * weight.Reference.Elements / elements)
                : count;
    }

    /// <summary>
    /// Elements of an input, or vectors of it, which meet the whole weight once each; null where its shape does not tell.
    /// </summary>
    internal static long? Positions(string op, long[]? x) =>
        (op, x) switch
        {
            ("ConvTranspose", { Length: > 1 }) when x[1] > 0 => Product(x) / x[1],
            ("LSTM" or "GRU" or "RNN" or "Attention" or "QAttention", { Length: 3 }) when x[2] > 0 => Product(x) / x[2],
            _ => null,
        };

    /// <summary>Products that make an element of the output; null where the operator or the operand's shape does not tell.</summary>
    internal static long? Reduced(NodeProto node, string op, int input, long[]? operand) =>
        (op, input) switch
        {
            ("MatMul" or "FusedMatMul", 1) => From(operand, Math.Max(0, (operand?.Length ?? 0) - 2)),
            ("MatMul" or "FusedMatMul", 0) => From(operand, (operand?.Length ?? 0) - 1),
            ("Gemm" or "FusedGemm", 1) => From(operand, node.Int("transB", 0) == 0 ? 0 : 1),
            ("Gemm" or "FusedGemm", 0) => From(operand, node.Int("transA", 0) == 0 ? 1 : 0),
            ("Conv" or "FusedConv" or "DeformConv", 1) => operand is { Length: > 0 } && operand[0] > 0
                ? Product(operand) / operand[0]
                : null,
            _ => null,
        };

    private static long? From(long[]? operand, int axis) =>
        operand is not null && axis >= 0 && axis < operand.Length ? operand[axis] : null;

    // Null where the number of axes is not known; an axis of unknown length is one position.
    internal static long[]? Lengths(ScopeFacts scope, string value) => scope.Shape(value)?.Select(d => d.Value ?? 1).ToArray();

    internal static long Product(long[] lengths) => lengths.Aggregate(1L, Times);

    internal static long Times(long a, long b) => (long)Int128.Min((Int128)a * b, long.MaxValue / 1024);
}
