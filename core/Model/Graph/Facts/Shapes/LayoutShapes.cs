namespace Serverless.Core.Model;

/// <summary>Shapes of operators that move elements.</summary>
internal static class LayoutShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            ("Transpose", n => n.Make(0, n.Type(0), Permutation(n)?.Select(p => (Dim?)n.Dims(0)![p]))),
            ("Reshape", n => n.Make(0, n.Type(0), Reshape(n))),
            ("Flatten", n => n.Make(0, n.Type(0), Flatten(n))),
            ("Squeeze", n => n.Make(0, n.Type(0), Squeeze(n))),
            ("Unsqueeze", n => n.Make(0, n.Type(0), Unsqueeze(n))),
            ("Concat", n => n.Make(0, n.Type(0), Concat(n))),
            ("Split", Split),
            ("Slice", n => n.Make(0, n.Type(0), Slice(n))),
            ("Expand", n => n.Make(0, n.Type(0), Expand(n))),
            ("Tile", n => n.Make(0, n.Type(0), Tile(n))),
            ("Pad", n => n.Make(0, n.Type(0), Pad(n))),
            ("Resize", n => n.Make(0, n.Type(0), Resize(n))),
            ("Upsample", n => n.Make(0, n.Type(0), Resize(n))),
            ("DepthToSpace", n => n.Make(0, n.Type(0), Blocks(n, false))),
            ("SpaceToDepth", n => n.Make(0, n.Type(0), Blocks(n, true))),
        ];

    /// <summary>The axes of a Transpose's input in the order of its output; null when they are not known.</summary>
    public static IReadOnlyList<int>? Permutation(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        if (n.Node.Ints("perm") is not { Count: > 0 } given)
            return [.. Enumerable.Range(0, x.Count).Reverse()];
        var axes = given.Select(p => NodeReading.Axis(p, x.Count) ?? -1).ToList();
        return axes.Count == x.Count && axes.Order().SequenceEqual(Enumerable.Range(0, x.Count)) ? axes : null;
    }

    private static IEnumerable<Dim?>? Reshape(InferredNode n)
    {
        if (n.Node.Ints("shape") is { } old)
            return Reshape(n.Dims(0), [.. old.Select(v => Dim.Of(v))], copies: true);
        if (n.Numbers(1) is { } numbers)
            return Reshape(n.Dims(0), [.. numbers.Select(v => v.Value)], n.Node.Int("allowzero", 0) == 0);
        return n.Dims(1) is [{ Value: >= 0 and < 64 } rank] ? new Dim?[rank.Value!.Value] : null;
    }

    // A symbol that is computed of lengths may be 0 or −1 in some runs only where its expression can be negative.
    private static Dim?[] Reshape(IReadOnlyList<Dim>? input, Dim?[] asked, bool copies)
    {
        var shape = new Dim?[asked.Length];
        var open = -1;
        for (var i = 0; i < asked.Length; i++)
        {
            if (asked[i]?.Is(-1) == true)
                open = i;
            else if (asked[i]?.Is(0) == true && copies)
                shape[i] = input is not null && i < input.Count ? input[i] : null;
            else if (asked[i]?.IsNonNegative == true)
                shape[i] = asked[i];
        }
        if (open < 0 || input is null)
            return shape;
        // What stands on both sides cancels out, even where the product would be too long.
        var left = input.ToList();
        Dim? rest = Dim.One;
        for (var i = 0; i < shape.Length; i++)
            if (i != open && (shape[i] is not { } d || !left.Remove(d)))
                rest = Dim.Multiply(rest, shape[i]);
        shape[open] = Dim.Divide(left.Aggregate((Dim?)Dim.One, Dim.Multiply), rest);
        return shape;
    }

    private static IEnumerable<Dim?>? Flatten(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return [null, null];
        var axis = n.Node.Int("axis", 1);
        var at = (int)(axis < 0 ? axis + x.Count : axis);
        if (at < 0 || at > x.Count)
            return [null, null];
        return [x.Take(at).Aggregate((Dim?)Dim.One, Dim.Multiply), x.Skip(at).Aggregate((Dim?)Dim.One, Dim.Multiply)];
    }

    private static IEnumerable<Dim?>? Squeeze(InferredNode n)
    {
        var axes = n.Setting("axes", 1, out var given);
        if (n.Dims(0) is not { } x)
            return null;
        // Without axes, what has the length 1 goes, which dynamic axes may have.
        if (!given)
            return x.All(d => d.Value is not null) ? x.Where(d => !d.Is(1)) : null;
        var gone = axes?.Select(a => NodeReading.Axis(a, x.Count)).ToList();
        return gone is null || gone.Contains(null) ? null : x.Where((_, i) => !gone.Contains(i));
    }

    private static IEnumerable<Dim?>? Unsqueeze(InferredNode n)
    {
        if (n.Setting("axes", 1, out _) is not { } axes || n.Dims(0) is not { } x)
            return null;
        var added = axes.Select(a => NodeReading.Axis(a, x.Count + axes.Count)).ToHashSet();
        if (added.Contains(null) || added.Count != axes.Count)
            return null;
        var shape = new List<Dim?>();
        for (int i = 0, from = 0; i < x.Count + axes.Count; i++)
            shape.Add(added.Contains(i) ? Dim.One : x[from++]);
        return shape;
    }

    private static IEnumerable<Dim?>? Concat(InferredNode n)
    {
        var rank = Enumerable.Range(0, n.Count).Select(i => n.Dims(i)?.Count).FirstOrDefault(r => r is not null);
        if (rank is not { } axes || NodeReading.Axis(n.Node.Int("axis", 1), axes) is not { } along)
            return null;
        var shape = new Dim?[axes];
        Dim? sum = Dim.Zero;
        for (var i = 0; i < n.Count; i++)
        {
            var dims = n.Dims(i);
            if (dims is not null && dims.Count != axes)
                return null;
            sum = Dim.Add(sum, dims?[along]);
            for (var a = 0; a < axes; a++)
                if (dims is not null && (shape[a] is null || shape[a]!.Value is null && dims[a].Value is not null))
                    shape[a] = dims[a];
        }
        shape[along] = sum;
        return shape;
    }

    private static void Split(InferredNode n)
    {
        var x = n.Dims(0);
        var axis = x is null ? null : NodeReading.Axis(n.Node.Int("axis", 0), x.Count);
        var parts = axis is null ? null : Parts(n, x![axis.Value]);
        for (var o = 0; o < n.Outputs.Length; o++)
            n.Make(o, n.Type(0), axis is null ? null : x!.Select((d, i) => i == axis ? parts?[o] : d));
    }

    /// <summary>Lengths of a Split's outputs along its axis; null when they are not known.</summary>
    public static IReadOnlyList<Dim?>? Parts(InferredNode n, Dim length)
    {
        var count = n.Outputs.Length;
        if (n.Node.Ints("split") is { } old)
            return old.Count == count ? [.. old.Select(Dim.Of)] : null;
        if (n.Node.Has(1))
            return n.Numbers(1) is { } numbers && numbers.Count == count ? [.. numbers.Select(v => v.Value)] : null;
        if (length.Value is not { } all)
            return Dim.Divide(length, Dim.Of(count)) is { } each ? [.. Enumerable.Repeat(each, count)] : null;
        // The last part takes what is left (Split, version 18).
        var part = (all + count - 1) / count;
        return part * (count - 1) > all ? null : [.. Enumerable.Range(0, count).Select(i => Dim.Of(i < count - 1 ? part : all - part * i))];
    }

    private static IEnumerable<Dim?>? Slice(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        if (SliceBounds.Of(n) is not { } slices)
            return x.Select(_ => (Dim?)null);
        return x.Select((d, i) => slices.FirstOrDefault(s => s.Axis == i) is { } s ? s.Length(d) : d);
    }

    private static IEnumerable<Dim?>? Expand(InferredNode n)
    {
        if (n.Numbers(1) is { } numbers)
            return ElementwiseShapes.Broadcast(n.Dims(0), [.. numbers.Select(v => v.Value?.IsNonNegative == true ? v.Value : null)]);
        return n.Dims(0) is { } x && n.Dims(1) is [{ Value: >= 0 and < 64 } rank]
            ? new Dim?[Math.Max(x.Count, (int)rank.Value!.Value)]
            : null;
    }

    private static IEnumerable<Dim?>? Tile(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        return n.Numbers(1) is { } by && by.Count == x.Count ? x.Select((d, i) => Dim.Multiply(d, by[i].Value)) : x.Select(_ => (Dim?)null);
    }

    private static IEnumerable<Dim?>? Pad(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        var pads = n.Node.Ints("pads") is { } old ? [.. old.Select(v => (Dim?)Dim.Of(v))] : n.Numbers(1)?.Select(v => v.Value).ToArray();
        if (pads is null || pads.Length != 2 * x.Count || n.Node.Has(3))
            return x.Select(_ => (Dim?)null);
        return x.Select((d, i) => Dim.Add(d, Dim.Add(pads[i], pads[i + x.Count])));
    }

    private static IEnumerable<Dim?>? Resize(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        if (n.Node.Attribute("axes") is not null || n.Node.Text("keep_aspect_ratio_policy", "stretch") != "stretch")
            return x.Select(_ => (Dim?)null);
        if (n.Node.Has(3) && n.Numbers(3) is { } sizes)
            return sizes.Count == x.Count ? sizes.Select(v => v.Value) : x.Select(_ => (Dim?)null);
        var scales = n.Node.Attribute("scales")?.Floats ?? n.Input(n.Opset >= 11 && n.Node.OpType == "Resize" ? 2 : 1)?.Floats;
        if (scales is null || scales.Count != x.Count || n.Node.Text("coordinate_transformation_mode", "") == "tf_crop_and_resize")
            return x.Select(_ => (Dim?)null);
        return x.Select((d, i) => Scaled(d, scales[i]));
    }

    private static Dim? Scaled(Dim d, float scale)
    {
        if (scale >= 1 && scale == MathF.Floor(scale) && scale < 1 << 20)
            return Dim.Multiply(d, Dim.Of((long)scale));
        return d.Value is { } length && length < 1 << 20 && scale > 0 ? Dim.Of((long)(length * scale)) : null;
    }

    private static IEnumerable<Dim?>? Blocks(InferredNode n, bool into)
    {
        if (n.Dims(0) is not { Count: 4 } x)
            return null;
        var block = Dim.Of(Math.Max(1, n.Node.Int("blocksize", 1)));
        var area = Dim.Multiply(block, block);
        return into
            ? [x[0], Dim.Multiply(x[1], area), Dim.Divide(x[2], block), Dim.Divide(x[3], block)]
            : [x[0], Dim.Divide(x[1], area), Dim.Multiply(x[2], block), Dim.Multiply(x[3], block)];
    }
}
