namespace Serverless.Core.Model;

/// <summary>
/// Indices of a Reshape: read from the slowest axis on, each axis of the output is a part of one of the input's, or several of them.
/// </summary>
internal static class ReshapeCoupling
{
    public static void Reshape(CoupledNode n)
    {
        if (n.Axes(0) is not { } x || n.Rank(0) is not { } rank || n.Node.Attribute("shape") is not null)
        {
            n.FreezeAll("makes a shape that is not known");
            n.FreezeLengths(1);
            return;
        }
        var lengths = Enumerable.Range(0, rank).Select(a => n.Length(0, a)).ToList();
        var (axes, zero) = (new IndexSet[rank], new bool[rank]);
        var (from, to) = Align(n, x, lengths, axes, zero);
        if (from < x.Count || to < rank)
            Backwards(n, x, lengths, axes, zero, from, to);
        n.Make(0, axes, zero);
        Numbers(n, x, axes);
    }

    /// <summary>Whether a value is zero at zero units of whatever some axes hold.</summary>
    public static bool Zero(CoupledNode n, int from, int to)
    {
        var any = false;
        for (var a = from; a < to; a++)
        {
            if (n.Axes(0)![a].Size.Is(1))
                continue;
            if (!n.Zero(0, a, ChannelRole.Producer))
                return false;
            any = true;
        }
        return any;
    }

    // How far both sides could be read together.
    private static (int From, int To) Align(CoupledNode n, IReadOnlyList<IndexSet> x, List<Dim> lengths, IndexSet[] axes, bool[] zero)
    {
        var (from, to) = (0, 0);
        IndexSet? rest = null;
        for (; to < lengths.Count; to++)
        {
            if (lengths[to].Is(1))
            {
                axes[to] = IndexSet.One;
                continue;
            }
            var (factors, first, left) = (new List<IndexSet>(), from, lengths[to]);
            var (at, open) = (from, rest);
            while (!left.Is(1))
            {
                while (open is null && at < x.Count && x[at].Size.Is(1))
                    at++;
                var next = open ?? (at < x.Count ? x[at] : null);
                if (next is null)
                    return Stuck();
                if (Dim.Divide(left, next.Size) is { } more)
                {
                    factors.Add(next);
                    (left, open) = (more, null);
                    at++;
                }
                else if (Dim.Divide(next.Size, left) is { } inner)
                {
                    (var outer, open) = IndexAlgebra.Factor(next, left, inner, n.Where);
                    factors.Add(outer);
                    left = Dim.One;
                }
                else
                    return Stuck();
            }
            if (IndexSet.Product(factors) is not { } made)
                return Stuck();
            (axes[to], zero[to]) = (made, Zero(n, first, Math.Min(x.Count, open is null ? at : at + 1)));
            (from, rest) = (at, open);
        }
        if (rest is not null)
            return Stuck();
        while (from < x.Count && x[from].Size.Is(1))
            from++;
        return (from, to);

        // What was cut from an axis is cut for good; the rest of it goes nowhere that is known.
        (int, int) Stuck()
        {
            rest?.Freeze($"{n.Where} mixes it with others");
            return (rest is null ? from : from + 1, to);
        }
    }

    // From the fastest axis on, whole axes that are the same; what is left between is mixed.
    private static void Backwards(
        CoupledNode n,
        IReadOnlyList<IndexSet> x,
        List<Dim> lengths,
        IndexSet[] axes,
        bool[] zero,
        int from,
        int to
    )
    {
        var (last, end) = (x.Count, lengths.Count);
        while (true)
        {
            while (last > from && x[last - 1].Size.Is(1))
                last--;
            while (end > to && lengths[end - 1].Is(1))
                axes[--end] = IndexSet.One;
            if (last <= from || end <= to || !lengths[end - 1].Equals(x[last - 1].Size))
                break;
            last--;
            end--;
            (axes[end], zero[end]) = (x[last], n.Zero(0, last, ChannelRole.Producer));
        }
        for (var a = from; a < last; a++)
            n.Freeze(0, a, "mixes it with others");
        for (var a = to; a < end; a++)
            axes[a] = n.Made(lengths[a], "mixes it with others");
    }

    private static void Numbers(CoupledNode n, IReadOnlyList<IndexSet> x, IndexSet[] axes)
    {
        if (n.Shapes.Numbers(1) is not { } numbers)
        {
            // Only the number of axes is known: the shape may be computed from anything.
            n.Freeze(0, "makes a shape that is not known");
            return;
        }
        var copies = n.Node.Int("allowzero", 0) == 0;
        for (var a = 0; a < axes.Length && a < numbers.Count; a++)
        {
            if (numbers[a].Value is { } literal && numbers[a].Lengths.Count == 0)
            {
                // What is left over is counted anew, and what is copied is the same.
                if (literal.Is(-1) || literal.Is(0) && copies && a < x.Count && x[a].Root == axes[a].Root)
                    continue;
            }
            if (!axes[a].Size.Is(1) || numbers[a].Lengths.Count > 0)
                n.Length(1, a, axes[a]);
        }
    }
}
