namespace Serverless.Core.Model;

/// <summary>Indices of reductions: a sum does without zeros, a mean does not.</summary>
internal static class ReductionCoupling
{
    private static readonly HashSet<string> Sums = ["ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"];

    public static IEnumerable<(string, CouplingRule)> Rules =>
        OperatorFacts.With(ChannelEffect.Reduction).Select(f => (f.Operator, (CouplingRule)Reduce));

    private static void Reduce(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || ReductionShapes.Axes(n.Shapes, x.Count) is not { } over)
        {
            n.FreezeAll("reduces axes that are not known");
            return;
        }
        foreach (var axis in over)
            if (!Sums.Contains(n.Node.OpType) || !n.Zero(0, (int)axis))
                n.Freeze(0, (int)axis, "computes over it");
        var keep = n.Node.Int("keepdims", 1) != 0;
        var (axes, zero) = (new List<IndexSet>(), new List<bool>());
        for (var a = 0; a < x.Count; a++)
        {
            var gone = over.Contains(a);
            if (gone && !keep)
                continue;
            axes.Add(gone ? IndexSet.One : x[a]);
            zero.Add(!gone && n.Zero(0, a) && OperatorFacts.Of(n.Node)!.Zero == ZeroRule.All);
        }
        n.Make(0, axes, zero);
    }
}
