namespace Serverless.Core.Model;

/// <summary>What a Slice takes of one axis.</summary>
/// <param name="Axis">The axis.</param>
/// <param name="Start">First index, negative from the end; null when it is not known.</param>
/// <param name="End">Behind the last index, negative from the end; null when it is not known.</param>
/// <param name="Step">Distance of the indices; null when it is not known.</param>
/// <param name="Place">Which of the starts it is.</param>
internal sealed record SliceBounds(int Axis, Dim? Start, Dim? End, long? Step, int Place)
{
    private const long Far = int.MaxValue;

    /// <summary>The axes that a Slice cuts; null when they are not known.</summary>
    public static IReadOnlyList<SliceBounds>? Of(InferredNode n)
    {
        var rank = n.Dims(0)!.Count;
        var old = n.Node.Ints("starts") is not null;
        var starts = old ? Attribute("starts") : n.Numbers(1);
        var ends = old ? Attribute("ends") : n.Numbers(2);
        var count = starts?.Count ?? ends?.Count;
        var axes =
            n.Setting("axes", 3, out var given)
            ?? (given || count is null ? null : [.. Enumerable.Range(0, count.Value).Select(i => (long)i)]);
        if (axes is null || starts is not null && starts.Count != axes.Count || ends is not null && ends.Count != axes.Count)
            return null;
        IReadOnlyList<long>? steps = old || !n.Node.Has(4) ? [.. axes.Select(_ => 1L)] : n.Constants(4);
        var slices = new List<SliceBounds>();
        for (var i = 0; i < axes.Count; i++)
        {
            if (NodeReading.Axis(axes[i], rank) is not { } axis || slices.Any(s => s.Axis == axis))
                return null;
            slices.Add(new SliceBounds(axis, starts?[i].Value, ends?[i].Value, steps is null || i >= steps.Count ? null : steps[i], i));
        }
        return slices;

        IReadOnlyList<ShapeNumber>? Attribute(string name) => n.Node.Ints(name)?.Select(v => new ShapeNumber(Dim.Of(v), [])).ToList();
    }

    /// <summary>How many elements it takes of an axis; null when that is not known.</summary>
    public Dim? Length(Dim of)
    {
        if (Range(of) is var (from, to))
            return Dim.Of(
                Math.Max(0, Step!.Value > 0 ? (to - from + Step.Value - 1) / Step.Value : (from - to - Step.Value - 1) / -Step.Value)
            );
        if (Step != 1 || Start is null || End is null)
            return null;
        // From the first element on: all of it, or up to some before the end where it has so many for sure.
        if (Start.Is(0) && (End.Value >= Far || End.Equals(of)))
            return of;
        return null;
    }

    /// <summary>
    /// The first index and the one behind the last, of an axis of a known length (numpy's rules); null when they are not known.
    /// </summary>
    public (long From, long To)? Range(Dim of)
    {
        if (of.Value is not { } length || Step is not (not null and not 0) || Start?.Value is not { } start || End?.Value is not { } end)
            return null;
        var (low, high) = Step > 0 ? (0L, length) : (-1L, length - 1);
        return (Clamp(start, Step > 0 ? 0 : 0, Step > 0 ? length : length - 1), Clamp(end, low, high));

        long Clamp(long at, long least, long most) => Math.Clamp(at < 0 ? at + length : at, Math.Min(least, most), most);
    }
}
