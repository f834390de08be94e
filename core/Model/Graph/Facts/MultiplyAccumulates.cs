using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Multiply-accumulates that a run of a model takes with each stored weight: elements of the weight times the positions it is applied
/// at. Products, convolutions, recurrent layers and attention projections count; look-ups and elementwise operators take none. Products
/// of two activations are not counted.
/// </summary>
public static class MultiplyAccumulates
{
    /// <summary>Counts by weight.</summary>
    /// <param name="model">The model, indexed.</param>
    /// <param name="inputs">
    /// Shape of each input. An axis whose length follows from neither these nor the model counts as one position.
    /// </param>
    /// <returns>Multiply-accumulates by the weight's name.</returns>
    public static IReadOnlyDictionary<string, long> Of(ModelProto model, IReadOnlyDictionary<string, long[]> inputs)
    {
        var sized = model.Clone();
        foreach (var input in sized.Graph.Input)
            if (inputs.TryGetValue(input.Name, out var shape) && input.Type?.TensorType is { } type)
                type.Shape = new TensorShapeProto { Dim = { shape.Select(d => new TensorShapeProto.Types.Dimension { DimValue = d }) } };
        var roots = GraphScope.Of(sized);
        var facts = new GraphFacts(sized, roots);
        return Weight.Of(sized, roots).ToDictionary(w => w.Name, w => Total(w.Uses.Select(u => Of(w, u, facts))), StringComparer.Ordinal);
    }

    /// <summary>Adds counts; those of a model whose shapes are absurd end at the largest number.</summary>
    public static long Total(IEnumerable<long> counts) => counts.Aggregate(0L, (a, b) => (long)Int128.Min((Int128)a + b, long.MaxValue));

    private static long Of(Weight weight, WeightUse use, GraphFacts facts)
    {
        var (node, scope) = (use.Node, facts.In(use.Scope));
        var (operand, output) = (Lengths(scope, node.Input[use.Input]), node.Output.Count == 0 ? null : Lengths(scope, node.Output[0]));
        var reduced = (use.Op.Split('.')[^1], use.Input) switch
        {
            ("MatMul" or "FusedMatMul", 1) => From(operand, Math.Max(0, (operand?.Length ?? 0) - 2)),
            ("MatMul" or "FusedMatMul", 0) => From(operand, (operand?.Length ?? 0) - 1),
            ("Gemm" or "FusedGemm", 1) => From(operand, use.IntAttribute("transB", 0) == 0 ? 0 : 1),
            ("Gemm" or "FusedGemm", 0) => From(operand, use.IntAttribute("transA", 0) == 0 ? 1 : 0),
            ("Conv" or "FusedConv" or "DeformConv", 1) => operand is { Length: > 0 } && operand[0] > 0
                ? Product(operand) / operand[0]
                : null,
            _ => null,
        };
        if (reduced is { } length && output is not null)
            return Times(Product(output), length);
        return (use.Op.Split('.')[^1], use.Input) switch
        {
            // Each element of the input, or vector of it, meets the whole weight once.
            ("ConvTranspose", 1) => Applied(1),
            ("LSTM" or "GRU" or "RNN", 1 or 2) => Applied(2),
            ("Attention" or "QAttention", 1) => Applied(2),
            ("MatMul" or "FusedMatMul" or "Gemm" or "FusedGemm", 0 or 1) or ("Conv" or "FusedConv" or "DeformConv", 1) or ("Einsum", _) =>
                weight.Reference.Elements,
            _ => 0,
        };

        long Applied(int axis) =>
            Lengths(scope, node.Input[0]) is { } x && x.Length > axis && x[axis] > 0
                ? Times(Product(x) / x[axis], weight.Reference.Elements)
                : weight.Reference.Elements;
    }

    private static long? From(long[]? operand, int axis) =>
        operand is not null && axis >= 0 && axis < operand.Length ? operand[axis] : null;

    // Null where the number of axes is not known; an axis of unknown length is one position.
    private static long[]? Lengths(ScopeFacts scope, string value) => scope.Shape(value)?.Select(d => d.Value ?? 1).ToArray();

    private static long Product(long[] lengths) => lengths.Aggregate(1L, Times);

    private static long Times(long a, long b) => (long)Int128.Min((Int128)a * b, long.MaxValue / 1024);
}
