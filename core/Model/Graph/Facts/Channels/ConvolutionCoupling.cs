namespace Serverless.Core.Model;

/// <summary>Indices of convolutions, of grouped ones a group at a time, and of pools.</summary>
internal static class ConvolutionCoupling
{
    private const string Window = "moves a window over it",
        Pixels = "makes its pixels";

    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            ("Conv", Convolve),
            ("com.microsoft.FusedConv", Convolve),
            ("ConvTranspose", Transposed),
            ("MaxPool", Pool),
            ("AveragePool", Pool),
            ("LpPool", Pool),
            ("GlobalAveragePool", Pool),
            ("GlobalMaxPool", Pool),
            ("GlobalLpPool", Pool),
        ];

    private static void Convolve(CoupledNode n)
    {
        if (
            n.Axes(0) is not { Count: > 2 } x
            || n.Axes(1) is not { Count: > 2 } w
            || n.Rank(0) != x.Count
            || n.Has(3)
            || n.Outputs.Length != 1
        )
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        var groups = n.Node.Int("group", 1);
        if (groups == 1)
            n.Unify(x[1], w[1]);
        else
        {
            var (outer, inner) = n.Factor(x[1], groups);
            var (rows, _) = n.Factor(w[0], groups);
            n.Unify(inner, w[1]);
            n.Unify(outer, rows);
            n.Length("group", rows);
        }
        n.Use(1, 0, ChannelRole.Producer);
        n.Use(1, 1, ChannelRole.Consumer);
        // The columns of a weight that is computed in each run have to be zero where its input is not.
        if (!n.IsConstant(1) && !n.Zero(1, 1) && !n.Zero(0, 1))
            x[1].Freeze($"{n.Where} sums over it where it may not be zero");
        Finish(n, x, w[0], n.Zero(1, 0, ChannelRole.Producer));
    }

    private static void Transposed(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 2 } x || n.Axes(1) is not { Count: > 2 } w || n.Rank(0) != x.Count || !n.IsConstant(1))
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        n.Unify(x[1], w[0]);
        n.Use(1, 0, ChannelRole.Consumer);
        n.Use(1, 1, ChannelRole.Producer);
        var groups = n.Node.Int("group", 1);
        var made = w[1];
        if (groups > 1)
        {
            var (outer, _) = n.Factor(x[1], groups);
            n.Length("group", outer);
            if (IndexSet.Product(outer, w[1]) is not { } product)
            {
                n.FreezeAll("has more channels than can be counted");
                return;
            }
            made = product;
        }
        Finish(n, x, made, true);
    }

    private static void Finish(CoupledNode n, IReadOnlyList<IndexSet> x, IndexSet channels, bool zero)
    {
        if (n.Has(2))
        {
            if (n.Axes(2) is not [var bias])
            {
                n.FreezeAll("has a bias that is not read here");
                return;
            }
            n.Unify(bias, channels);
            n.Use(2, 0, ChannelRole.Bias);
            zero &= n.Zero(2, 0, ChannelRole.Bias);
        }
        // What is fused behind it may make something of nothing, as Sigmoid does.
        zero &= n.Node.Text("activation", "Relu") is "Relu" or "LeakyRelu" or "Tanh";
        n.Make(0, [x[0], channels, .. Spatial(n, x)], [n.Zero(0, 0) && !n.Has(2), zero, .. x.Skip(2).Select(_ => false)]);
    }

    private static IEnumerable<IndexSet> Spatial(CoupledNode n, IReadOnlyList<IndexSet> x)
    {
        for (var a = 2; a < x.Count; a++)
        {
            n.Freeze(0, a, Window);
            yield return n.Made(n.Length(0, a), Pixels);
        }
    }

    private static void Pool(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: > 1 } x || n.Rank(0) != x.Count)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        IndexSet[] axes = [x[0], x[1], .. Spatial(n, x)];
        bool[] zero = [.. x.Select((_, a) => a < 2 && n.Zero(0, a))];
        n.Make(0, axes, zero);
        if (n.Outputs.Length < 2)
            return;
        // Its indices are those of all elements.
        n.MakeFrozen(1, n.Where);
        n.Freeze(0, "tells where its elements are");
    }
}
