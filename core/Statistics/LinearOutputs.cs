using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Statistics;

/// <summary>
/// Values y = x·A that a layer makes of its input x by its weight alone, as the first of two factors does. With the Gram matrix G = XᵀX of
/// the input, that of y is AᵀGA: y need not be observed. Extremes, histograms and magnitudes do not follow.
/// </summary>
public sealed class LinearOutputs
{
    private readonly Dictionary<string, (Weight Weight, bool Patches)> makers = new(StringComparer.Ordinal);

    /// <summary>Finds the values.</summary>
    /// <param name="weights">The weights A that may make them.</param>
    public LinearOutputs(IEnumerable<Weight> weights)
    {
        foreach (var weight in weights)
        foreach (var use in weight.Uses.Where(u => IsLinear(weight, u)))
            makers[use.Node.Output[0]] = (weight, use.Op == "Conv");
    }

    /// <summary>The weight that alone makes a layer's input, row by row; null where there is none, or the layer takes other rows.</summary>
    /// <param name="views">The layer's input.</param>
    public Weight? Maker(IReadOnlyList<InputView> views)
    {
        if (views.Count == 0 || !makers.TryGetValue(views[0].Value, out var first))
            return null;
        var all = views.All(v => makers.TryGetValue(v.Value, out var m) && m.Weight == first.Weight && KeepsRows(v, m.Patches));
        return all && views.DistinctBy(v => v.Value).Count() == first.Weight.Uses.Count ? first.Weight : null;
    }

    /// <summary>Statistics of y from those of x: the Gram matrix alone.</summary>
    /// <param name="input">Statistics of x.</param>
    /// <param name="gram">G, n × n.</param>
    /// <param name="weight">A as it is stored: r × n where the shape's rows lie one behind the other, else n × r.</param>
    /// <param name="shape">How A is viewed: r rows along an axis of n.</param>
    /// <returns>Statistics with an r × r Gram matrix; without one where x has none, or A is not finite.</returns>
    public static InputStatistics Of(InputStatistics input, double[] gram, double[] weight, LayerShape shape)
    {
        var (n, r) = ((int)shape.Axis, (int)shape.Rows);
        var known = new InputStatistics(input.Samples, 0, 0, MovingRange.Empty);
        if (input.GramAxis != n || input.GramRows == 0)
            return known;
        var rowsFirst = shape.Inner == 1;
        var (right, whole) = (new double[(long)n * r], new double[(long)r * r]);
        MatrixProduct.Multiply(1, gram, false, weight, rowsFirst, null, right, n, n, r);
        MatrixProduct.Multiply(1, weight, !rowsFirst, right, false, null, whole, r, n, r);
        return !Array.TrueForAll(whole, double.IsFinite)
            ? known
            : known with
            {
                GramAxis = r,
                GramGroups = 1,
                GramRows = input.GramRows,
                ReadGramAsync = (_, _) => Task.FromResult(whole),
            };
    }

    /// <summary>Bytes that <see cref="Of"/> and its arguments take.</summary>
    /// <param name="shape">How A is viewed.</param>
    public static long WorkingBytes(LayerShape shape) =>
        8 * (shape.Axis * shape.Axis + 2 * shape.Axis * shape.Rows + shape.Rows * shape.Rows);

    // In a branch the value is there for some of the samples alone, its input for all.
    private static bool IsLinear(Weight weight, WeightUse use)
    {
        if (
            use is not { Direct: true, Input: 1, Scope: { Parent: null, Function: null } }
            || (use.Node.Input is [_, _, { Length: > 0 }, ..])
        )
            return false;
        if (weight.Type != (int)DataType.Float || weight.Reference.DataType != weight.Type)
            return false;
        return use.Op switch
        {
            "MatMul" => weight.Reference.Dims.Length == 2,
            "Gemm" => use.IntAttribute("transA", 0) == 0 && use.FloatAttribute("alpha", 1) == 1,
            "Conv" => use.IntAttribute("group", 1) == 1,
            _ => false,
        };
    }

    // A pixel of what a convolution makes is a row of the next one's input where that has a kernel of one pixel and leaves none out.
    private static bool KeepsRows(InputView view, bool patches) =>
        view.Window is { } w
            ? patches && w.Groups == 1 && w.Kernel.Concat(w.Strides).All(k => k == 1) && (w.Pads ?? []).All(p => p == 0)
            : !patches;
}
