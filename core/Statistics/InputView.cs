using Serverless.Core.Model;

namespace Serverless.Core.Statistics;

/// <summary>Where a convolution reads its input.</summary>
/// <param name="Kernel">Kernel height and width; a sequence has height 1.</param>
/// <param name="Strides">Strides.</param>
/// <param name="Dilations">Dilations.</param>
/// <param name="Pads">Padding before and after: top, left, bottom, right; null for SAME_UPPER, worked out from the input.</param>
/// <param name="SameLower">With <paramref name="Pads"/> null: an odd pixel of padding goes before.</param>
/// <param name="Groups">Groups of channels.</param>
public sealed record ConvWindow(int[] Kernel, int[] Strides, int[] Dilations, int[]? Pads, bool SameLower, int Groups);

/// <summary>
/// A layer's input seen as the rows of a matrix X, so that the layer computes X·Wᵀ with the rows of its weight
/// (<see cref="LayerShape"/>): the vectors of a MatMul's A, or the patches of a convolution, group by group.
/// </summary>
/// <param name="Value">Name of the value, as <see cref="SubgraphTaps.Name"/> gives it.</param>
/// <param name="Axis">Length of a row.</param>
/// <param name="Window">The convolution, or null when the last axis of the value holds the rows.</param>
public sealed record InputView(string Value, int Axis, ConvWindow? Window)
{
    /// <summary>Groups of channels, each with rows of its own.</summary>
    public int Groups => Window?.Groups ?? 1;

    /// <summary>The inputs of all uses of a weight, or why they cannot be observed.</summary>
    public static (IReadOnlyList<InputView> Views, string? Why) Of(Weight weight, LayerShape shape)
    {
        var views = new List<InputView>();
        if (weight.Scope.Function is not null)
            return ([], "it is in a model-local function");
        if (shape.Outer > 1 && shape.Inner > 1)
            return ([], "it is a batch of matrices");
        if (shape.Axis > int.MaxValue)
            return ([], "its rows are too long");
        foreach (var use in weight.Uses)
        {
            if (use.Scope.Function is not null)
                return ([], "it is used inside a model-local function");
            if (!KeepsRows(use, weight.Reference.Dims.Length))
                return ([], $"a layout operator stands between it and {use.Op}");
            InputView? view = use switch
            {
                { Op: "MatMul" or "com.microsoft.FusedMatMul", Input: 1 } when use.IntAttribute("transA", 0) == 0 => new InputView(
                    use.Node.Input[0],
                    (int)shape.Axis,
                    null
                ),
                { Op: "Gemm" or "com.microsoft.FusedGemm", Input: 1 } when use.IntAttribute("transA", 0) == 0 => new InputView(
                    use.Node.Input[0],
                    (int)shape.Axis,
                    null
                ),
                { Op: "com.microsoft.Attention", Input: 1 } => new InputView(use.Node.Input[0], (int)shape.Axis, null),
                { Op: "LSTM" or "GRU" or "RNN", Input: 1 } => new InputView(use.Node.Input[0], (int)shape.Axis, null),
                { Op: "LSTM" or "GRU" or "RNN", Input: 2 } when use.Node.Output[0].Length > 0 => new InputView(
                    use.Node.Output[0],
                    (int)shape.Axis,
                    null
                ),
                { Op: "Conv" or "com.microsoft.FusedConv" } when weight.Reference.Dims.Length is 3 or 4 => new InputView(
                    use.Node.Input[0],
                    (int)shape.Axis,
                    WindowOf(use, weight.Reference.Dims)
                ),
                _ => null,
            };
            if (view is null)
                return ([], $"the input of {use.Op} is not understood as rows");
            if (use.Scope.Resolve(view.Value)?.Index.Constant(view.Value) is not null)
                return ([], "its input is a constant");
            if (SubgraphTaps.Name(use.Scope, view.Value) is not { } shown)
                return (
                    [],
                    use.Scope.Opset < OpsetRaise.Lowest ? "it is used in a branch below operator set 9" : "it is used inside a loop"
                );
            views.Add(view with { Value = shown });
        }
        views = [.. views.Distinct()];
        return views.Select(v => v.Groups).Distinct().Count() > 1 ? ([], "its uses have different groups") : (views, null);
    }

    // Whether the rows of the weight as stored are those that the operator multiplies its input with, in whatever order; of
    // parts of rows, which are as long as no input is, there will be no statistics.
    private static bool KeepsRows(WeightUse use, int rank) =>
        use switch
        {
            { KeepsLayout: true } => true,
            { Op: "LSTM" or "GRU" or "RNN" } => use.Through.All(n =>
                n.OpType is "Identity" or "Unsqueeze" or "Squeeze" or "Slice" or "Split" or "Concat"
            ),
            { Op: "MatMul" } or { Op: "Gemm" } when rank == 2 && (use.Op == "MatMul" || use.IntAttribute("transB", 0) == 0) =>
                use.Through.All(n => n.OpType is "Identity" or "Transpose") && use.Through.Count(n => n.OpType == "Transpose") == 1,
            _ => false,
        };

    private static ConvWindow WindowOf(WeightUse use, long[] dims)
    {
        var flat = dims.Length == 3;
        int[] Pair(string name, int otherwise)
        {
            var found = use.Node.Attribute.FirstOrDefault(a => a.Name == name)?.Ints.Select(v => (int)v).ToArray() ?? [];
            return flat ? [1, found.Length > 0 ? found[0] : otherwise]
                : found.Length == 2 ? found
                : [otherwise, otherwise];
        }
        var pads = use.Node.Attribute.FirstOrDefault(a => a.Name == "pads")?.Ints.Select(v => (int)v).ToArray() ?? [];
        var auto = use.Node.Attribute.FirstOrDefault(a => a.Name == "auto_pad")?.S.ToStringUtf8() ?? "NOTSET";
        int[]? around = auto switch
        {
            "SAME_UPPER" or "SAME_LOWER" => null,
            "VALID" => [0, 0, 0, 0],
            _ => (flat, pads.Length) switch
            {
                (true, 2) => [0, pads[0], 0, pads[1]],
                (false, 4) => pads,
                _ => [0, 0, 0, 0],
            },
        };
        return new ConvWindow(
            flat ? [1, (int)dims[2]] : [(int)dims[2], (int)dims[3]],
            Pair("strides", 1),
            Pair("dilations", 1),
            around,
            auto == "SAME_LOWER",
            (int)use.IntAttribute("group", 1)
        );
    }
}
