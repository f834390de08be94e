namespace Serverless.Core.Model;

/// <summary>Indices of operators that move elements: the output's are the input's, elsewhere.</summary>
internal static class LayoutCoupling
{
    private const string Pixels = "makes its pixels",
        UnknownRank = "has inputs of an unknown rank";

    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            ("Transpose", Transpose),
            ("Reshape", ReshapeCoupling.Reshape),
            ("Flatten", Flatten),
            ("Squeeze", Squeeze),
            ("Unsqueeze", Unsqueeze),
            ("Concat", Concat),
            ("Expand", Expand),
            ("Tile", Tile),
            ("Pad", Pad),
            ("Resize", Resize),
            ("Upsample", Resize),
            ("DepthToSpace", n => Blocks(n, false)),
            ("SpaceToDepth", n => Blocks(n, true)),
        ];

    private static void Transpose(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || LayoutShapes.Permutation(n.Shapes) is not { } order || order.Count != x.Count)
            n.FreezeAll(UnknownRank);
        else
            n.Make(0, [.. order.Select(a => x[a])], [.. order.Select(a => n.Zero(0, a, ChannelRole.Producer))]);
    }

    private static void Flatten(CoupledNode n)
    {
        if (n.Axes(0) is not { } x)
        {
            n.FreezeAll(UnknownRank);
            return;
        }
        var axis = n.Node.Int("axis", 1);
        var at = (int)Math.Clamp(axis < 0 ? axis + x.Count : axis, 0, x.Count);
        if (IndexSet.Product([.. x.Take(at)]) is not { } outer || IndexSet.Product([.. x.Skip(at)]) is not { } inner)
        {
            n.FreezeAll("makes an axis whose length is too long an expression");
            return;
        }
        n.Make(0, [outer, inner], [ReshapeCoupling.Zero(n, 0, at), ReshapeCoupling.Zero(n, at, x.Count)]);
    }

    private static void Squeeze(CoupledNode n)
    {
        var axes = n.Shapes.Setting("axes", 1, out var given);
        if (n.Axes(0) is not { } x || given && axes is null || !given && x.Any(s => s.Size.Value is null))
        {
            n.FreezeAll(UnknownRank);
            return;
        }
        // Without axes, what a removal leaves one unit of would go too.
        if (!given)
            n.Freeze(0, "removes whatever axes have the length 1");
        var kept = Enumerable
            .Range(0, x.Count)
            .Where(a => given ? !axes!.Any(s => NodeReading.Axis(s, x.Count) == a) : !x[a].Size.Is(1))
            .ToList();
        n.Make(0, [.. kept.Select(a => x[a])], [.. kept.Select(a => n.Zero(0, a, ChannelRole.Producer))]);
    }

    private static void Unsqueeze(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || n.Shapes.Setting("axes", 1, out _) is not { } given)
        {
            n.FreezeAll(UnknownRank);
            return;
        }
        var rank = x.Count + given.Count;
        var added = given.Select(a => NodeReading.Axis(a, rank)).ToHashSet();
        if (added.Contains(null) || added.Count != given.Count)
        {
            n.FreezeAll("adds axes that are not there");
            return;
        }
        var (axes, zero) = (new IndexSet[rank], new bool[rank]);
        for (int a = 0, from = 0; a < rank; a++)
        {
            if (added.Contains(a))
            {
                axes[a] = IndexSet.One;
                continue;
            }
            (axes[a], zero[a]) = (x[from], n.Zero(0, from, ChannelRole.Producer));
            from++;
        }
        n.Make(0, axes, zero);
    }

    private static void Concat(CoupledNode n)
    {
        var rank = n.Axes(0)?.Count ?? 0;
        if (
            NodeReading.Axis(n.Node.Int("axis", 1), rank) is not { } along
            || Enumerable.Range(0, n.Count).Any(i => n.Axes(i)?.Count != rank)
        )
        {
            n.FreezeAll(UnknownRank);
            return;
        }
        var (axes, zero) = (new IndexSet[rank], new bool[rank]);
        for (var a = 0; a < rank; a++)
        {
            zero[a] = Enumerable.Range(0, n.Count).All(i => n.Zero(i, a, ChannelRole.Producer));
            if (a != along)
                axes[a] = ElementwiseCoupling.Met(n, n.Count, rank - a);
        }
        var parts = Enumerable.Range(0, n.Count).Select(i => n.Axes(i)![along]).Where(p => !p.Size.Is(0)).ToList();
        var known = parts.Count > 0 && parts.All(p => p.Size.Value > 0) && parts.Sum(p => (decimal)p.Size.Value!.Value) < long.MaxValue / 4;
        axes[along] = known
            ? IndexSet.Sum(parts)
            : n.Made(n.Rank(0) == rank ? n.Length(0, along) : Dim.Symbol("?"), "joins lengths that are not known");
        foreach (var p in known ? [] : parts)
            p.Freeze($"{n.Where} joins lengths that are not known");
        n.Make(0, axes, zero);
    }

    private static void Expand(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || n.Rank(0) is not { } rank)
        {
            n.FreezeAll(UnknownRank);
            n.FreezeLengths(1);
            return;
        }
        var (axes, zero) = (new IndexSet[rank], new bool[rank]);
        var numbers = n.Shapes.Numbers(1);
        for (var a = 0; a < rank; a++)
        {
            var (from, element) = (a - rank + x.Count, numbers is null ? -1 : a - rank + numbers.Count);
            var length = n.Length(0, a);
            if (from >= 0 && !x[from].Size.Is(1))
            {
                (axes[a], zero[a]) = (x[from], n.Zero(0, from, ChannelRole.Producer));
                if (numbers is null)
                    n.Freeze(0, from, "takes a shape that is not known");
                else if (element >= 0 && numbers[element].Value?.Is(1) != true)
                    n.Length(1, element, x[from]);
                continue;
            }
            axes[a] = length.Value is > 0 ? IndexSet.Leaf(length) : n.Made(length, "repeats it");
            if (element >= 0 && length.Value is > 1)
                n.Length(1, element, axes[a]);
        }
        n.Make(0, axes, zero);
    }

    private static void Tile(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || n.Shapes.Numbers(1) is not { } by || by.Count != x.Count)
        {
            n.FreezeAll("repeats it a number of times that is not known");
            n.FreezeLengths(1);
            return;
        }
        n.FreezeLengths(1);
        var axes = new IndexSet[x.Count];
        for (var a = 0; a < axes.Length; a++)
        {
            var times = by[a].Value;
            if (times?.Is(1) == true)
                axes[a] = x[a];
            else if (times?.Value is > 0 && IndexSet.Product(n.Made(times, "repeats it"), x[a]) is { } repeated)
                axes[a] = repeated;
            else
            {
                n.Freeze(0, a, "repeats it a number of times that is not known");
                axes[a] = n.Made(n.Length(0, a), "repeats it");
            }
        }
        n.Make(0, axes, [.. axes.Select((_, a) => n.Zero(0, a, ChannelRole.Producer))]);
    }

    private static void Pad(CoupledNode n)
    {
        n.FreezeLengths(1);
        var pads = n.Node.Ints("pads") ?? n.Shapes.Constants(1);
        if (n.Axes(0) is not { } x || pads is null || pads.Count != 2 * x.Count || n.Has(3))
        {
            n.FreezeAll("pads it by a number that is not known");
            return;
        }
        var zeros =
            n.Node.Text("mode", "constant") != "constant"
            || n.Node.Float("value", 0) == 0 && (!n.Has(2) || n.Shapes.Input(2)?.Floats is [0]);
        var axes = new IndexSet[x.Count];
        for (var a = 0; a < axes.Length; a++)
        {
            var (before, after) = (pads[a], pads[a + x.Count]);
            if (before == 0 && after == 0)
                axes[a] = x[a];
            else if (before >= 0 && after >= 0 && x[a].Size.Value > 0 && n.Node.Text("mode", "constant") == "constant")
                axes[a] = IndexSet.Sum([.. Added(before), x[a], .. Added(after)]);
            else
            {
                n.Freeze(0, a, "pads it");
                axes[a] = n.Made(n.Length(0, a), Pixels);
            }
        }
        n.Make(0, axes, [.. axes.Select((_, a) => zeros && n.Zero(0, a, ChannelRole.Producer))]);

        IEnumerable<IndexSet> Added(long count) => count == 0 ? [] : [IndexSet.Fixed(count, $"{n.Where} adds it")];
    }

    private static void Resize(CoupledNode n)
    {
        var input = n.Node.OpType == "Resize" ? 3 : -1;
        if (n.Axes(0) is not { } x || n.Rank(0) != x.Count || n.Shapes.Dims(0) is not { } dims)
        {
            n.FreezeAll(UnknownRank);
            n.FreezeLengths(input);
            return;
        }
        var axes = new IndexSet[x.Count];
        for (var a = 0; a < axes.Length; a++)
        {
            if (n.Length(0, a).Equals(dims[a]))
            {
                axes[a] = x[a];
                if (n.Has(input))
                    n.Length(input, a, x[a]);
                continue;
            }
            n.Freeze(0, a, "resizes it");
            axes[a] = n.Made(n.Length(0, a), Pixels);
        }
        n.Make(0, axes, [.. axes.Select((_, a) => n.Zero(0, a, ChannelRole.Producer))]);
    }

    // Rows and columns of a block move into the channels, in front of them, or out of them.
    private static void Blocks(CoupledNode n, bool into)
    {
        if (n.Axes(0) is not { Count: 4 } x || n.Rank(0) != 4 || x[1].Size.Value is not { } channels)
        {
            n.FreezeAll(UnknownRank);
            return;
        }
        n.Freeze(0, 2, "moves blocks of it");
        n.Freeze(0, 3, "moves blocks of it");
        var area = n.Node.Int("blocksize", 1) * n.Node.Int("blocksize", 1);
        IndexSet kept;
        if (into)
            kept = IndexSet.Product(IndexSet.Fixed(area, $"{n.Where} makes blocks of it"), x[1])!;
        else
        {
            var last = n.Node.Text("mode", "DCR") == "DCR";
            var (outer, inner) = n.Factor(x[1], last ? area : Math.Max(1, channels / area));
            (last ? outer : inner).Freeze($"{n.Where} moves blocks of it");
            kept = last ? inner : outer;
        }
        n.Make(
            0,
            [x[0], kept, n.Made(n.Length(0, 2), Pixels), n.Made(n.Length(0, 3), Pixels)],
            [n.Zero(0, 0, ChannelRole.Producer), n.Zero(0, 1, ChannelRole.Producer), false, false]
        );
    }
}
