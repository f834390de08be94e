using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>The rule of each operator.</summary>
internal static class ShapeRules
{
    private static readonly Dictionary<string, ShapeRule> All = new IEnumerable<(string Operator, ShapeRule Rule)>[]
    {
        ElementwiseShapes.Rules,
        MatrixShapes.Rules,
        WindowShapes.Rules,
        ReductionShapes.Rules,
        LayoutShapes.Rules,
        IndexShapes.Rules,
        RecurrentShapes.Rules,
        FusedShapes.Rules,
    }
        .SelectMany(r => r)
        .ToDictionary(r => r.Operator, r => r.Rule, StringComparer.Ordinal);

    /// <summary>Of a node; null when its operator is not known here.</summary>
    public static ShapeRule? Of(NodeProto node) => All.GetValueOrDefault(node.Operator());
}
