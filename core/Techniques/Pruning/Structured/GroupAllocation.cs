using System.Globalization;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What a group may lose.</summary>
/// <param name="Levels">Units that go, ascending; the first is 0.</param>
/// <param name="Loss">The squared relative error of the model's outputs that each is predicted to cost.</param>
internal sealed record GroupLadder(IReadOnlyList<int> Levels, IReadOnlyList<double> Loss)
{
    /// <summary>The loss of units that go, one of the levels.</summary>
    public double LossOf(int units) => Levels.Zip(Loss).First(l => l.First == units).Second;
}

/// <summary>A limit of a cost.</summary>
/// <param name="Of">What costs.</param>
/// <param name="Cost">The cost ratio when some units of each group go.</param>
/// <param name="Most">The most it may be.</param>
internal sealed record CostLimit(ShrinkCostKind Of, Func<IReadOnlyList<int>, double> Cost, double Most)
{
    private const double Exact = 1e-9;

    /// <summary>Why a choice is over the limit; null where it is not.</summary>
    /// <param name="removed">Units that go of each group.</param>
    public string? Missed(IReadOnlyList<int> removed) =>
        Cost(removed) is var left && left > Most + Exact
            ? string.Create(
                CultureInfo.InvariantCulture,
                $"{100 * left:0.#} % of the {Of.Plural()} are left, not {100 * Most:0.#} %: no further units that count may go"
            )
            : null;
}

/// <summary>
/// Units of each group that go so that costs keep their limits at little loss. Losses of groups add up; costs do not, since a weight
/// shrinks by both of its sides: from nothing removed on, the move of one group is made that saves most for what it loses, and so again.
/// </summary>
internal static class GroupAllocation
{
    private const double Nothing = 1e-12;

    /// <summary>Chooses.</summary>
    /// <param name="ladders">What each group may lose.</param>
    /// <param name="limits">The limits.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The choices on the way, each of units that go of each group; the last keeps the limits, or no more can go.</returns>
    public static IReadOnlyList<int[]> Path(
        IReadOnlyList<GroupLadder> ladders,
        IReadOnlyList<CostLimit> limits,
        CancellationToken cancellation
    )
    {
        var level = new int[ladders.Count];
        var removed = new int[ladders.Count];
        var path = new List<int[]> { removed.ToArray() };
        for (var excess = Excess(removed); excess > 0; )
        {
            cancellation.ThrowIfCancellationRequested();
            var (best, to, most, left) = (-1, 0, 0.0, 0.0);
            for (var g = 0; g < ladders.Count; g++)
            for (var l = level[g] + 1; l < ladders[g].Levels.Count; l++)
            {
                var now = removed[g];
                removed[g] = ladders[g].Levels[l];
                var after = Excess(removed);
                removed[g] = now;
                var rate = (excess - after) / Math.Max(Nothing, ladders[g].Loss[l] - ladders[g].Loss[level[g]]);
                if (rate > most)
                    (best, to, most, left) = (g, l, rate, after);
            }
            if (best < 0)
                break;
            (level[best], removed[best], excess) = (to, ladders[best].Levels[to], left);
            path.Add(removed.ToArray());
        }
        return path;

        double Excess(int[] units) => limits.Sum(l => Math.Max(0, l.Cost(units) - l.Most));
    }
}
