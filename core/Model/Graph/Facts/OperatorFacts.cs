using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// The operators that are known here, and what they do to channels (ONNX operator schemas; ONNX Runtime, "Contrib operators").
/// </summary>
public static class OperatorFacts
{
    private const int Many = int.MaxValue;
    private const string Microsoft = "com.microsoft.";

    private static readonly Dictionary<string, OperatorFact> All = Table().ToDictionary(f => f.Operator, StringComparer.Ordinal);

    /// <summary>Of an operator, written <c>MatMul</c> or <c>com.microsoft.FusedMatMul</c>; null when it is not known here.</summary>
    public static OperatorFact? Of(string name) => All.GetValueOrDefault(name);

    /// <summary>Of a node's operator; null when it is not known here.</summary>
    public static OperatorFact? Of(NodeProto node) => Of(node.Operator());

    /// <summary>Operators of an effect.</summary>
    internal static IEnumerable<OperatorFact> With(ChannelEffect effect) => All.Values.Where(f => f.Effect == effect);

    private static IEnumerable<OperatorFact> Table() =>
        [
            .. Elementwise(ZeroRule.All, true, 1, "Relu", "LeakyRelu", "Abs", "Neg", "Identity", "Dropout"),
            .. Elementwise(ZeroRule.All, false, 1, "Tanh", "HardSwish", "Gelu", "Erf", "Elu", "Selu", "Celu", "Softsign", "Mish"),
            .. Elementwise(ZeroRule.All, false, 1, "Swish", "ThresholdedRelu", "Shrink", "Sin", "Tan", "Asin", "Atan", "Sinh", "Asinh"),
            .. Elementwise(ZeroRule.All, false, 1, "Atanh", "Sqrt", "Sign", "Floor", "Ceil", "Round", "Cast"),
            .. Elementwise(ZeroRule.All, false, 1, Microsoft + "Gelu", Microsoft + "QuickGelu"),
            .. Elementwise(ZeroRule.None, false, 1, "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Log", "Reciprocal", "Cos", "Cosh"),
            .. Elementwise(ZeroRule.None, false, 1, "Acos", "Acosh", "Clip", "Not", "IsNaN", "IsInf", "BitwiseNot"),
            .. Elementwise(ZeroRule.All, false, Many, "Add", "Sub", "Sum", "Mean", "Max", "Min", "Or", "Xor", "BitwiseOr", "BitwiseXor"),
            .. Elementwise(ZeroRule.Any, false, Many, "Mul", "And", "BitwiseAnd"),
            .. Elementwise(ZeroRule.First, false, Many, "Div", "PRelu", "BitShift"),
            .. Elementwise(ZeroRule.None, false, Many, "Pow", "Mod", "Where", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
            .. Elementwise(ZeroRule.All, false, Many, Microsoft + "BiasGelu", Microsoft + "FastGelu"),
            .. Of(ChannelEffect.Pooling, ZeroRule.All, true, 1, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
            .. Of(ChannelEffect.Pooling, ZeroRule.All, true, 1, "LpPool", "GlobalLpPool"),
            .. Of(ChannelEffect.Pooling, ZeroRule.All, false, 1, "Resize", "Upsample"),
            .. Of(ChannelEffect.Elementwise, ZeroRule.All, false, 1, "QuantizeLinear", "DequantizeLinear"),
            .. Of(ChannelEffect.Elementwise, ZeroRule.All, false, 1, Microsoft + "QuantizeLinear", Microsoft + "DequantizeLinear"),
            .. Of(
                ChannelEffect.Normalization,
                ZeroRule.None,
                false,
                1,
                "BatchNormalization",
                "InstanceNormalization",
                "GroupNormalization"
            ),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 1, "LayerNormalization", "RMSNormalization", "LRN"),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 1, "SimplifiedLayerNormalization", "LpNormalization"),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 1, "MeanVarianceNormalization"),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 2, Microsoft + "SkipLayerNormalization"),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 2, Microsoft + "SkipSimplifiedLayerNormalization"),
            .. Of(ChannelEffect.Normalization, ZeroRule.None, false, 1, "Softmax", "LogSoftmax", "Hardmax"),
            .. Of(ChannelEffect.Product, ZeroRule.Any, true, 2, "Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"),
            .. Of(
                ChannelEffect.Product,
                ZeroRule.Any,
                true,
                2,
                Microsoft + "FusedMatMul",
                Microsoft + "FusedGemm",
                Microsoft + "FusedConv"
            ),
            .. Of(
                ChannelEffect.Reduction,
                ZeroRule.All,
                true,
                1,
                "ReduceSum",
                "ReduceMean",
                "ReduceMax",
                "ReduceMin",
                "ReduceL1",
                "ReduceL2"
            ),
            .. Of(ChannelEffect.Reduction, ZeroRule.All, false, 1, "ReduceSumSquare", "ReduceProd"),
            .. Of(ChannelEffect.Reduction, ZeroRule.None, false, 1, "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin"),
            .. Of(ChannelEffect.Layout, ZeroRule.All, true, 1, "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice"),
            .. Of(ChannelEffect.Layout, ZeroRule.All, true, 1, "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth"),
            .. Of(ChannelEffect.Layout, ZeroRule.All, true, Many, "Concat"),
            .. Of(ChannelEffect.Recurrent, ZeroRule.None, false, 1, "LSTM", "GRU", "RNN"),
        ];

    private static IEnumerable<OperatorFact> Elementwise(ZeroRule zero, bool homogeneous, int data, params string[] operators) =>
        Of(ChannelEffect.Elementwise, zero, homogeneous, data, operators);

    private static IEnumerable<OperatorFact> Of(
        ChannelEffect effect,
        ZeroRule zero,
        bool homogeneous,
        int data,
        params string[] operators
    ) => operators.Select(o => new OperatorFact(o, effect, zero, homogeneous, data));
}
