using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Kinds of operators that rewrites ask for (ONNX operator schemas). A node of a domain other than the default one is of none, unless a
/// kind says so.
/// </summary>
public static class OperatorKinds
{
    // Operators that ONNX Runtime computes of 8-bit codes between DequantizeLinear and QuantizeLinear, besides products.
    private static readonly HashSet<string> Integer =
    [
        "Add",
        "Mul",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
    ];

    private static readonly HashSet<string> Rearranging = ["Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"];

    // Elementwise operators whose output is of another type than their input.
    private static readonly HashSet<string> Converting =
    [
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
        "com.microsoft.QuantizeLinear",
        "com.microsoft.DequantizeLinear",
        "IsNaN",
        "IsInf",
    ];

    private static readonly HashSet<string> Random =
    [
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    ];

    /// <summary>
    /// Whether a node that is no product is computed in integers where it stands between integer kernels (ONNX Runtime, "Quantize ONNX
    /// models").
    /// </summary>
    public static bool HasIntegerKernel(NodeProto node) => Integer.Contains(node.Operator());

    /// <summary>
    /// Whether a node bounds each element and changes it no further. QuantizeLinear does the same where its range ends at the bounds, so
    /// ONNX Runtime drops the node.
    /// </summary>
    public static bool IsBound(NodeProto node) => node.Operator() is "Relu" or "Clip";

    /// <summary>Whether a node maps each element to one between 0 and 1, as gates do.</summary>
    public static bool IsGate(NodeProto node) => node.Operator() is "Sigmoid" or "HardSigmoid";

    /// <summary>Whether a node leaves one element a channel: all axes behind the channels are of length 1.</summary>
    public static bool IsGlobalPool(NodeProto node) => node.Operator() is "GlobalAveragePool" or "GlobalMaxPool" or "GlobalLpPool";

    /// <summary>
    /// Whether a node has one output, which holds a function of each element of the first input at its place, in the same type. Operators
    /// of com.microsoft included.
    /// </summary>
    public static bool IsFunction(NodeProto node) =>
        OperatorFacts.Of(node) is { Effect: ChannelEffect.Elementwise, Data: 1 } fact
        && node.Output.Count == 1
        && !Converting.Contains(fact.Operator);

    /// <summary>Whether a node's output holds the elements of its first input, each once, in another shape or order.</summary>
    public static bool IsRearrangement(NodeProto node) => Rearranging.Contains(node.Operator());

    /// <summary>Whether a node draws random numbers in every run. Dropout, which does so in training alone, is no such node.</summary>
    public static bool IsRandom(NodeProto node) => Random.Contains(node.Operator());
}
