namespace Serverless.Core.Model;

/// <summary>
/// Where the units of a leaf lie on an axis: unit u at Offset + u·Stride, and at all combinations of further steps from there.
/// </summary>
/// <param name="Leaf">The leaf.</param>
/// <param name="Offset">Index of the first unit.</param>
/// <param name="Stride">Distance of two units.</param>
/// <param name="Steps">Further steps, each taken a number of times.</param>
internal sealed record IndexPattern(IndexSet Leaf, long Offset, long Stride, IReadOnlyList<(long Count, long Stride)> Steps)
{
    /// <summary>All leaves of a set of known length.</summary>
    public static IEnumerable<IndexPattern> Of(IndexSet set)
    {
        System.Runtime.CompilerServices.RuntimeHelpers.EnsureSufficientExecutionStack();
        set = set.Root;
        if (set.Size.Is(1))
            return [];
        if (set.Parts is { } parts)
            return Along(parts);
        return set.Factors is { } factors ? Across(factors) : [new IndexPattern(set, 0, 1, [])];
    }

    private static IEnumerable<IndexPattern> Along(IndexSet[] parts)
    {
        long before = 0;
        foreach (var part in parts)
        {
            foreach (var p in Of(part))
                yield return p with
                {
                    Offset = p.Offset + before,
                };
            before += part.Size.Value!.Value;
        }
    }

    private static IEnumerable<IndexPattern> Across(IndexSet[] factors)
    {
        if (factors.Any(f => f.Size.Value is null))
            yield break;
        long all = 1,
            outer = 1;
        foreach (var f in factors)
            all *= f.Size.Value!.Value;
        foreach (var f in factors)
        {
            var length = f.Size.Value!.Value;
            var inner = all / outer / length;
            foreach (var p in Of(f))
            {
                var steps = p.Steps.Select(s => (s.Count, s.Stride * inner)).ToList();
                if (outer > 1)
                    steps.Insert(0, (outer, length * inner));
                if (inner > 1)
                    steps.Add((inner, 1));
                yield return new IndexPattern(p.Leaf, p.Offset * inner, p.Stride * inner, steps);
            }
            outer *= length;
        }
    }

    /// <summary>The indices of a unit.</summary>
    public IEnumerable<long> Indices(int unit)
    {
        IEnumerable<long> at = [Offset + unit * Stride];
        foreach (var (count, stride) in Steps)
            at = at.SelectMany(a => Enumerable.Range(0, checked((int)count)).Select(i => a + i * stride));
        return at;
    }
}
