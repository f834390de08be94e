namespace Serverless.Core.Model;

/// <summary>Indices of fused attention: heads of query, key, value and output are one; what a head computes with stays whole.</summary>
internal static class AttentionCoupling
{
    private const string Whole = "computes with whole heads";

    public static IEnumerable<(string, CouplingRule)> Rules =>
        [("com.microsoft.Attention", Packed), ("com.microsoft.MultiHeadAttention", Separate)];

    // Weights of query, key and value beside each other.
    private static void Packed(CoupledNode n)
    {
        var heads = n.Node.Int("num_heads", 0);
        if (
            n.Axes(0) is not { Count: 3 } x
            || n.Axes(1) is not { Count: 2 } w
            || heads <= 0
            || n.Outputs.Length > 1
            || n.Node.Attribute("qkv_hidden_sizes") is not null
            || Enumerable.Range(4, Math.Max(0, n.Count - 4)).Any(n.Has)
        )
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        n.Unify(x[2], w[0]);
        n.Use(1, 0, ChannelRole.Consumer);
        n.Use(1, 1, ChannelRole.Producer);
        n.Use(2, 0, ChannelRole.Bias);
        if (n.Axes(2) is [var bias])
            n.Unify(bias, w[1]);
        var (kinds, each) = n.Factor(w[1], 3);
        n.Unify(kinds, IndexSet.Fixed(3, $"{n.Where} takes query, key and value"));
        var (outer, inner) = n.Factor(each, heads);
        inner.Freeze($"{n.Where} {Whole}");
        n.Freeze(3, "masks it");
        n.Freeze(0, 1, "attends along it");
        n.Length("num_heads", outer);
        n.Make(0, [x[0], x[1], each], [false, false, n.IsConstant(1) && (!n.Has(2) || n.IsConstant(2))]);
    }

    private static void Separate(CoupledNode n)
    {
        var heads = n.Node.Int("num_heads", 0);
        if (
            n.Axes(0) is not { Count: 3 } q
            || n.Axes(1) is not { Count: 3 } k
            || n.Axes(2) is not { Count: 3 } v
            || heads <= 0
            || n.Outputs.Length > 1
            || Enumerable.Range(3, Math.Max(0, n.Count - 3)).Any(n.Has)
        )
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        var (first, inner) = n.Factor(q[2], heads);
        inner.Freeze($"{n.Where} {Whole}");
        foreach (var (set, input) in new[] { (k[2], 1), (v[2], 2) })
        {
            var (outer, each) = n.Factor(set, heads);
            n.Unify(first, outer);
            if (input == 1)
                each.Freeze($"{n.Where} {Whole}");
            n.Freeze(input, 1, "attends along it");
        }
        n.Freeze(0, 1, "attends along it");
        n.Length("num_heads", first);
        // Heads follow one another, and so do those of the output.
        n.Make(0, [q[0], q[1], v[2]], [false, false, n.Zero(2, 2)]);
    }
}
