using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A part of a model's latency.</summary>
/// <param name="Cost">Its time, in any unit, when some units of each group are removed.</param>
/// <param name="Groups">The groups it depends on.</param>
internal sealed record LatencyPart(Func<Func<ChannelGroup, int>, double> Cost, IEnumerable<ChannelGroup> Groups);

/// <summary>
/// The latency that is predicted of a model without some units, over that of the model as it is: a sum over its parts. Where calls follow
/// one another in which few groups differ, only the parts of those are computed.
/// </summary>
internal sealed class LatencyCost
{
    private readonly LatencyPart[] parts;
    private readonly int[][] partsOf;
    private readonly Dictionary<ChannelGroup, int> numbers;
    private readonly double[] now;
    private readonly int[] last;
    private readonly double whole;

    /// <summary>Of parts.</summary>
    /// <param name="parts">The parts.</param>
    /// <param name="groups">Groups that may shrink.</param>
    public LatencyCost(IEnumerable<LatencyPart> parts, IReadOnlyList<PrunableGroup> groups)
    {
        this.parts = [.. parts];
        numbers = groups.Select((g, i) => (g.Group, i)).ToDictionary(g => g.Group, g => g.i);
        var touched = this.parts.SelectMany((p, i) => p.Groups.Where(numbers.ContainsKey).Select(g => (Group: numbers[g], Part: i)));
        var byGroup = touched.Distinct().ToLookup(t => t.Group, t => t.Part);
        partsOf = [.. groups.Select((_, i) => byGroup[i].ToArray())];
        (last, now) = (new int[groups.Count], [.. this.parts.Select(p => p.Cost(_ => 0))]);
        whole = now.Sum();
    }

    /// <summary>The ratio.</summary>
    /// <param name="removed">Units that go of each group.</param>
    public double Of(IReadOnlyList<int> removed)
    {
        for (var g = 0; g < last.Length; g++)
        {
            if (last[g] == removed[g])
                continue;
            foreach (var part in partsOf[g])
                now[part] = parts[part].Cost(Removed);
            last[g] = removed[g];
        }
        return whole > 0 ? now.Sum() / whole : 1;

        int Removed(ChannelGroup group) => numbers.TryGetValue(group, out var number) ? removed[number] : 0;
    }
}
