namespace Serverless.Core.Model;

/// <summary>Indices of normalizations: what statistics are taken over stays whole, since removed zeros would change them.</summary>
internal static class NormalizationCoupling
{
    private const string Statistics = "takes statistics over it, which would change";

    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            ("BatchNormalization", Batch),
            ("InstanceNormalization", Instance),
            ("GroupNormalization", Group),
            ("LayerNormalization", Layer),
            ("SimplifiedLayerNormalization", Layer),
            ("RMSNormalization", Layer),
            ("com.microsoft.SkipLayerNormalization", Skip),
            ("com.microsoft.SkipSimplifiedLayerNormalization", Skip),
            ("LRN", n => Over(n, [1])),
            ("LpNormalization", n => Over(n, [n.Node.Int("axis", -1)])),
            ("MeanVarianceNormalization", n => Over(n, n.Node.Ints("axes") ?? [0, 2, 3])),
            ("Softmax", Soft),
            ("LogSoftmax", Soft),
            ("Hardmax", Soft),
            ("CumSum", n => n.FreezeAll("sums along it")),
        ];

    private static void Batch(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 1 } x || n.Node.Int("training_mode", 0) != 0 || n.Outputs.Length != 1 || n.Shapes.Opset < 7)
        {
            n.FreezeAll("has inputs or outputs that are not read here");
            return;
        }
        Parameters(n, x[1], 1, 5, i => i is 1 or 4 ? ChannelRole.Parameter : ChannelRole.Bias);
        n.Make(0, x, [.. x.Select((_, a) => a == 1 && n.Zero(0, 1) && n.IsConstant(2) && n.IsConstant(3))]);
    }

    private static void Instance(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 2 } x)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        Parameters(n, x[1], 1, 3, i => i == 1 ? ChannelRole.Parameter : ChannelRole.Bias);
        for (var a = 2; a < x.Count; a++)
            n.Freeze(0, a, Statistics);
        n.Make(0, x, [.. x.Select((_, a) => a == 1 && n.Zero(0, 1) && n.IsConstant(2))]);
    }

    private static void Group(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 2 } x || n.Node.Int("num_groups", 0) is not (var groups and > 0))
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        var (outer, inner) = n.Factor(x[1], groups);
        inner.Freeze($"{n.Where} {Statistics}");
        for (var a = 2; a < x.Count; a++)
            n.Freeze(0, a, Statistics);
        n.Length("num_groups", outer);
        // Since version 21 parameters are of channels, before that of groups.
        Parameters(n, n.Shapes.Opset < 21 ? outer : x[1], 1, 3, i => i == 1 ? ChannelRole.Parameter : ChannelRole.Bias);
        n.Make(0, x, [.. x.Select((_, a) => a == 1 && n.Zero(0, 1) && n.IsConstant(2))]);
    }

    private static void Layer(CoupledNode n)
    {
        var over = n.Axes(0) is { } axes ? NodeReading.Axis(n.Node.Int("axis", -1), axes.Count) : null;
        if (n.Axes(0) is not { } x || over is not { } first)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        for (var a = first; a < x.Count; a++)
            n.Freeze(0, a, Statistics);
        for (var i = 1; i < n.Count; i++)
            Trailing(n, x, i, i == 1 ? ChannelRole.Parameter : ChannelRole.Bias);
        n.Make(0, x, new bool[x.Count]);
        for (var o = 1; o < n.Outputs.Length; o++)
            n.Make(o, [.. x.Select((s, a) => a < first ? s : IndexSet.One)], new bool[x.Count]);
    }

    private static void Skip(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 0 } x || n.Axes(1) is null)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        n.Freeze(0, x.Count - 1, Statistics);
        Trailing(n, x, 1, ChannelRole.Bias);
        for (var i = 2; i < n.Count; i++)
            Trailing(n, x, i, i == 2 ? ChannelRole.Parameter : ChannelRole.Bias);
        n.Make(0, x, new bool[x.Count]);
        n.MakeFrozen(1, n.Where);
        n.MakeFrozen(2, n.Where);
        n.Make(3, x, new bool[x.Count]);
    }

    // An operand that is broadcast to the value, its last axes to the value's last.
    private static void Trailing(CoupledNode n, IReadOnlyList<IndexSet> x, int input, ChannelRole role)
    {
        if (n.Axes(input) is not { } axes)
        {
            if (n.Has(input))
                n.Freeze(0, $"has an operand of an unknown rank");
            return;
        }
        for (var a = 1; a <= Math.Min(axes.Count, x.Count); a++)
        {
            ElementwiseCoupling.Met(n, x[^a], axes[^a]);
            n.Use(input, axes.Count - a, role);
        }
    }

    private static void Parameters(CoupledNode n, IndexSet channels, int from, int to, Func<int, ChannelRole> role)
    {
        for (var i = from; i < to; i++)
        {
            if (n.Axes(i) is not [var axis])
            {
                channels.Freeze($"{n.Where} has parameters that are not read here");
                continue;
            }
            n.Unify(axis, channels);
            n.Use(i, 0, role(i));
        }
    }

    private static void Over(CoupledNode n, IReadOnlyList<long> over)
    {
        if (n.Axes(0) is not { } x)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        foreach (var axis in over)
            if (NodeReading.Axis(axis, x.Count) is { } a)
                n.Freeze(0, a, Statistics);
        n.Make(0, x, new bool[x.Count]);
    }

    // Before version 13 the value is seen as a matrix, whose rows are all axes from the given one on.
    private static void Soft(CoupledNode n)
    {
        var matrix = n.Shapes.Opset < 13;
        var axis = n.Node.Int("axis", matrix ? 1 : -1);
        var rank = n.Axes(0)?.Count ?? 0;
        var first = NodeReading.Axis(axis, rank) ?? rank;
        Over(n, matrix ? [.. Enumerable.Range(first, rank - first).Select(a => (long)a)] : [axis]);
    }
}
