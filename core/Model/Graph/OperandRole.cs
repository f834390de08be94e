using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>What an operator takes a constant for: as a weight, or as something that is too small or too exact to be compressed.</summary>
internal static class OperandRole
{
    private static readonly HashSet<string> Convolutions = ["Conv", "ConvTranspose", "DeformConv", "FusedConv", "NhwcFusedConv"];

    // Numbers that are computed with one by one: masks, positions, tables, factors.
    private static readonly HashSet<string> Elementwise =
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Where",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "PRelu",
        "Clip",
        "BiasAdd",
        "BiasGelu",
        "FastGelu",
        "BiasSoftmax",
        "BiasSplitGelu",
        "QuickGelu",
    ];

    // What is moved, looked into or handed on, and parameters of the operation itself.
    private static readonly HashSet<string> Others =
    [
        "Expand",
        "Tile",
        "Pad",
        "Resize",
        "Upsample",
        "Range",
        "OneHot",
        "TopK",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "CumSum",
        "Loop",
        "Scan",
        "If",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Constant",
        "ConstantOfShape",
        "NonMaxSuppression",
        "RoiAlign",
        "GridSample",
        "STFT",
        "DFT",
        "MelWeightMatrix",
        "SequenceConstruct",
        "Optional",
        "Shape",
        "Size",
        "RotaryEmbedding",
    ];

    /// <summary>Why a constant at an input is no weight, or null where it is one.</summary>
    public static string? WhyNoWeight(NodeProto node, int input)
    {
        var name = node.OpType;
        if (Convolutions.Contains(name))
            return input == 1 ? null : Small(input == 2 ? "a bias" : "no kernel", name);
        if (OperatorFacts.Of(name)?.Effect == ChannelEffect.Recurrent)
            return input is 1 or 2 ? null : Small("a bias or first state", name);
        if (name is "Gemm" or "FusedGemm")
            return input < 2 ? null : Small("a bias", name);
        if (name.Contains("Norm", StringComparison.Ordinal) && name != "EmbedLayerNormalization")
            return Small("a scale or offset", name);
        if (Elementwise.Contains(name))
            return $"an operand of {name}, which is no weight";
        return Others.Contains(name) ? $"a parameter of {name}, which is no weight" : null;
    }

    private static string Small(string what, string op) => $"{what} of {op}, too small to matter";
}
