using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>The rule of each operator.</summary>
internal static class CouplingRules
{
    private static readonly Dictionary<string, CouplingRule> All = new IEnumerable<(string Operator, CouplingRule Rule)>[]
    {
        ElementwiseCoupling.Rules,
        MatrixCoupling.Rules,
        ConvolutionCoupling.Rules,
        NormalizationCoupling.Rules,
        ReductionCoupling.Rules,
        LayoutCoupling.Rules,
        IndexCoupling.Rules,
        RecurrentCoupling.Rules,
        AttentionCoupling.Rules,
    }
        .SelectMany(r => r)
        .ToDictionary(r => r.Operator, r => r.Rule, StringComparer.Ordinal);

    /// <summary>Of a node; null when its operator is not known here.</summary>
    public static CouplingRule? Of(NodeProto node) => All.GetValueOrDefault(node.Operator());
}
