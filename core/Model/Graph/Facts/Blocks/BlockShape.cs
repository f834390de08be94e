using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>What the nodes of a block tell of it.</summary>
internal static class BlockShape
{
    /// <summary>How the input of a block is found again in its output.</summary>
    public static BlockKind Kind(string input, NodeProto end, BlockRegion region, GraphIndex index)
    {
        if (IsSum(end) && end.Input.Take(2).Any(i => Past(i, index) == input))
            return BlockKind.Residual;
        if (end.Operator() == "Mul" && end.Input.Any(i => Past(i, index) == input))
            return BlockKind.Gate;
        var isSplit = end.Operator() == "Concat" && end.Input.Any(i => index.Producer(Past(i, index)) is { } p && IsPart(p, input, index));
        return isSplit && region.HasLayer ? BlockKind.Split : BlockKind.Plain;
    }

    /// <summary>Whether a node is a product, a recurrent layer, or of an operator not known here and takes a stored matrix.</summary>
    public static bool IsLayer(NodeProto node, GraphIndex index) =>
        OperatorFacts.Of(node) is { } fact
            ? fact.Effect is ChannelEffect.Product or ChannelEffect.Recurrent
            : node.Input.Any(i => index.Initializer(i) is { Dims.Count: > 1 });

    /// <summary>Whether a node adds its first two inputs.</summary>
    public static bool IsSum(NodeProto node) =>
        node.Operator() is "Add" or "Sum" or "com.microsoft.SkipLayerNormalization" or "com.microsoft.SkipSimplifiedLayerNormalization"
        && node.Input.Count > 1;

    /// <summary>The value that a value is a copy of.</summary>
    public static string Past(string value, GraphIndex index)
    {
        while (index.Producer(value) is { } p && p.Operator() is "Identity" or "Dropout" && p.Output[0] == value)
            value = p.Input[0];
        return value;
    }

    /// <summary>What a residual block does.</summary>
    public static BlockRole Role(BlockRegion region, DataFlow flow)
    {
        var operators = region.Nodes.Select(n => n.Operator()).ToHashSet(StringComparer.Ordinal);
        if (operators.Any(o => o.EndsWith("Attention", StringComparison.Ordinal)))
            return BlockRole.Attention;
        var products = region.Nodes.Where(n => OperatorFacts.Of(n)?.Effect == ChannelEffect.Product).ToList();
        if (operators.Contains("Softmax") && products.Any(n => n.Input.Take(2).All(flow.IsData)))
            return BlockRole.Attention;
        return
            products.Count > 0
            && products.All(n => n.OpType is "MatMul" or "Gemm" or "FusedMatMul" or "FusedGemm" && n.Input.Take(2).Count(flow.IsData) == 1)
            ? BlockRole.Mlp
            : BlockRole.Other;
    }

    /// <summary>The axis that channels lie along: the second where the block convolves, else the last.</summary>
    public static int Axis(BlockRegion region, int rank) =>
        rank > 2 && region.Nodes.Any(n => n.OpType is "Conv" or "FusedConv" or "ConvTranspose") ? 1 : rank - 1;

    /// <summary>Whether two nodes are of one operator, and as many of their inputs hold data.</summary>
    public static bool IsLike(NodeProto node, NodeProto other, DataFlow flow) =>
        node.Operator() == other.Operator() && node.Input.Count(flow.IsData) == other.Input.Count(flow.IsData);

    private static bool IsPart(NodeProto node, string of, GraphIndex index) =>
        node.Operator() is "Split" or "Slice" or "Gather" && Past(node.Input[0], index) == of;
}
