using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>How many inputs the operators that are known here take at least (ONNX operator schemas, the least of all versions). Whoever
/// reads a node by its operator relies on it.</summary>
internal static class OperatorArity
{
    private static readonly Dictionary<string, int> Least = new string[][]
    {
        [
            "Abs",
            "AveragePool",
            "Cast",
            "Ceil",
            "Clip",
            "Concat",
            "Cos",
            "DepthToSpace",
            "Dropout",
            "Einsum",
            "Elu",
            "Erf",
            "Exp",
            "Flatten",
            "Floor",
            "Gelu",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "If",
            "LRN",
            "LeakyRelu",
            "Log",
            "LogSoftmax",
            "Max",
            "MaxPool",
            "Mean",
            "Min",
            "Neg",
            "Pad",
            "Reciprocal",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
            "Relu",
            "Reshape",
            "Resize",
            "Round",
            "Selu",
            "Shape",
            "Sigmoid",
            "Sign",
            "Sin",
            "Slice",
            "Softmax",
            "Softplus",
            "SpaceToDepth",
            "Split",
            "Sqrt",
            "Squeeze",
            "Sum",
            "Tanh",
            "Tile",
            "TopK",
            "Transpose",
            "Unsqueeze",
            "Upsample",
            "DynamicQuantizeLinear",
        ],
        [
            "Add",
            "Attention",
            "Conv",
            "ConvTranspose",
            "CumSum",
            "DequantizeLinear",
            "Div",
            "Equal",
            "Expand",
            "FusedConv",
            "FusedGemm",
            "FusedMatMul",
            "Gather",
            "GatherElements",
            "GatherND",
            "Gemm",
            "LayerNormalization",
            "MatMul",
            "Mul",
            "PRelu",
            "Pow",
            "QuantizeLinear",
            "RMSNormalization",
            "SimplifiedLayerNormalization",
            "SkipSimplifiedLayerNormalization",
            "Sub",
        ],
        [
            "GRU",
            "GatherBlockQuantized",
            "GroupNormalization",
            "InstanceNormalization",
            "LSTM",
            "MatMulNBits",
            "RNN",
            "ScatterND",
            "SkipLayerNormalization",
            "Where",
        ],
        [],
        ["BatchNormalization"],
    }
        .SelectMany((operators, i) => operators.Select(o => (Operator: o, Count: i + 1)))
        .ToDictionary(p => p.Operator, p => p.Count, StringComparer.Ordinal);

    /// <summary>Checks the nodes of a scope.</summary>
    /// <param name="path">How to name the model in an error.</param>
    /// <param name="where">How to name the scope.</param>
    /// <param name="nodes">The nodes.</param>
    /// <param name="functions">Domain and name of the model's functions, which may be called as an operator is.</param>
    /// <exception cref="BadInputException">A node has no output, or lacks inputs.</exception>
    public static void Check(string path, string where, IEnumerable<NodeProto> nodes, IReadOnlySet<(string Domain, string Name)> functions)
    {
        foreach (var node in nodes)
        {
            if (node.Output.Count == 0)
                throw new BadInputException($"{path}: {node.OpType} '{node.Name}' in {where} has no output; export the model again.");
            if (node.Domain is not ("" or "ai.onnx" or "com.microsoft") || functions.Contains((node.Domain, node.OpType)))
                continue;
            var least = Least.GetValueOrDefault(node.OpType);
            if (node.Input.Take(least).Count(i => i.Length > 0) < least)
                throw new BadInputException(
                    $"{path}: {node.OpType} '{node.Name}' in {where} lacks inputs: it takes at least {least}; export the model again."
                );
        }
    }
}
