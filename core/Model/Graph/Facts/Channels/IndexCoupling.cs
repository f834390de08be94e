namespace Serverless.Core.Model;

/// <summary>Indices of operators that cut an axis or look it up.</summary>
internal static class IndexCoupling
{
    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            ("Split", Split),
            ("Slice", Slice),
            ("Gather", Gather),
            ("ConstantOfShape", Filled),
            ("Shape", n => MakeAll(n)),
            ("Size", n => MakeAll(n)),
            ("Range", Range),
        ];

    private static void MakeAll(CoupledNode n)
    {
        n.MakeFrozen(0, $"{n.Where} makes it");
        // Numbers that are not followed may be used for anything.
        if (n.Shapes.Outputs[0]?.Numbers is null)
            n.Freeze(0, "takes its length");
    }

    private static void Range(CoupledNode n)
    {
        for (var i = 0; i < n.Count; i++)
            n.FreezeLengths(i);
        n.MakeFrozen(0, $"{n.Where} makes it");
    }

    private static void Filled(CoupledNode n)
    {
        if (n.Rank(0) is not { } rank || n.Shapes.Numbers(0) is null)
        {
            n.FreezeLengths(0);
            n.MakeFrozen(0, $"{n.Where} makes a shape that is not known");
            return;
        }
        var axes = new IndexSet[rank];
        for (var a = 0; a < rank; a++)
        {
            var length = n.Length(0, a);
            axes[a] = length.Value is > 0 ? IndexSet.Leaf(length) : n.Made(length, "makes it");
            n.Length(0, a, axes[a]);
        }
        var zero = n.Node.Attribute("value")?.T is not { } t || ShapeInference.Of(t).Floats is [0];
        n.Make(0, axes, [.. axes.Select(_ => zero)]);
    }

    private static void Split(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || NodeReading.Axis(n.Node.Int("axis", 0), x.Count) is not { } along)
        {
            n.FreezeAll("has inputs of an unknown rank");
            n.FreezeLengths(1);
            return;
        }
        var parts = Parts(n, x[along]);
        for (var o = 0; o < n.Outputs.Length; o++)
        {
            var axes = x.ToArray();
            axes[along] = parts[o];
            n.Make(o, axes, [.. axes.Select((_, a) => n.Zero(0, a, ChannelRole.Producer))]);
        }
    }

    private static IReadOnlyList<IndexSet> Parts(CoupledNode n, IndexSet set)
    {
        var lengths = LayoutShapes.Parts(n.Shapes, set.Size);
        var known = lengths?.All(l => l?.Value is > 0) == true && set.Size.Value is { } all && lengths.Sum(l => l!.Value) == all;
        if (!known)
        {
            set.Freeze($"{n.Where} cuts it where is not known");
            n.FreezeLengths(1);
            return [.. n.Outputs.Select((_, o) => n.Made(lengths?[o] ?? Dim.Symbol("?"), "cuts it where is not known"))];
        }
        var parts = new List<IndexSet>();
        var rest = set;
        for (var o = 0; o < lengths!.Count; o++)
        {
            if (o == lengths.Count - 1)
                parts.Add(rest);
            else
            {
                var (first, left) = n.Split(rest, lengths[o]!.Value!.Value);
                parts.Add(first);
                rest = left;
            }
            // Parts that are equal without being told to have to be told once they are not.
            if (n.Has(1))
                n.Length(1, o, parts[o]);
            else
                n.Length("split", parts[o], o);
        }
        return parts;
    }

    private static void Slice(CoupledNode n)
    {
        for (var i = 1; i < n.Count; i++)
            if (i is not (1 or 2))
                n.FreezeLengths(i);
        if (n.Axes(0) is not { } x || n.Rank(0) != x.Count || SliceBounds.Of(n.Shapes) is not { } slices)
        {
            n.FreezeAll("cuts axes that are not known");
            n.FreezeLengths(1);
            n.FreezeLengths(2);
            return;
        }
        var axes = x.ToArray();
        foreach (var slice in slices)
        {
            var set = x[slice.Axis];
            if (slice.Step == 1 && slice.Range(set.Size) is var (from, to) && from < to)
                axes[slice.Axis] = Cut(n, set, slice, from, to);
            else if (slice.Step == 1 && slice.Length(set.Size)?.Equals(set.Size) != true || slice.Step != 1)
            {
                n.Freeze(0, slice.Axis, "takes a part of it");
                axes[slice.Axis] = n.Made(n.Length(0, slice.Axis), "takes a part of it");
                FreezeNumbers(slice);
            }
            else
                FreezeNumbers(slice);
        }
        n.Make(0, axes, [.. axes.Select((_, a) => n.Zero(0, a, ChannelRole.Producer))]);

        void FreezeNumbers(SliceBounds slice)
        {
            n.FreezeLengths(1, slice.Place);
            n.FreezeLengths(2, slice.Place);
        }
    }

    private static IndexSet Cut(CoupledNode n, IndexSet set, SliceBounds slice, long from, long to)
    {
        var length = set.Size.Value!.Value;
        var (before, rest) = from > 0 ? n.Split(set, from) : (null, set);
        var (taken, _) = to < length ? n.Split(rest, to - from) : (rest, rest);
        var attribute = n.Node.Ints("starts") is not null;
        // From none on, and up to more than there are, stays right.
        if (before is not null)
            Note("starts", 1, before);
        else
            n.FreezeLengths(1, slice.Place);
        if (to < length || slice.End!.Value <= length)
            Note("ends", 2, before is null ? taken : IndexSet.Sum(before, taken));
        else
            n.FreezeLengths(2, slice.Place);
        return taken;

        void Note(string name, int input, IndexSet up)
        {
            if (attribute)
                n.Length(name, up, slice.Place);
            else
                n.Length(input, slice.Place, up);
        }
    }

    private static void Gather(CoupledNode n)
    {
        n.FreezeLengths(1);
        if (n.Axes(0) is not { } x || n.Axes(1) is not { } indices || NodeReading.Axis(n.Node.Int("axis", 0), x.Count) is not { } along)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        // One index is a place of the axis that what lies before it moves.
        if (
            indices.Count == 0
            && n.Shapes.Constants(1) is [var index]
            && x[along].Size.Value is { } length
            && index >= -length
            && index < length
        )
        {
            var at = index < 0 ? index + length : index;
            var (before, rest) = at > 0 ? n.Split(x[along], at) : (null, x[along]);
            if (at < length - 1)
                n.Split(rest, 1);
            if (before is not null)
                n.Length(1, 0, before);
        }
        else
            n.Freeze(0, along, "looks its elements up");
        for (var a = 0; a < x.Count; a++)
            if (a != along)
                n.Use(0, a, ChannelRole.Producer);
        n.Make(
            0,
            [.. x.Take(along), .. indices, .. x.Skip(along + 1)],
            [
                .. Enumerable.Range(0, along).Select(a => n.Zero(0, a, ChannelRole.Producer)),
                .. indices.Select(_ => false),
                .. Enumerable.Range(along + 1, x.Count - along - 1).Select(a => n.Zero(0, a, ChannelRole.Producer)),
            ]
        );
    }
}
