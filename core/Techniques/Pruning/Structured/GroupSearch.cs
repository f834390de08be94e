using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Chooses how many units go of each group. What a group costs the model is measured at one number of units that go, and at those that a
/// choice goes further to; at others it follows the order's own cost. So few trials are enough.
/// </summary>
/// <param name="work">The model, its trials and limits.</param>
/// <param name="facts">The model, and what its layers take.</param>
/// <param name="groups">The groups.</param>
/// <param name="orders">The order in which units of each go.</param>
/// <param name="options">The step's options.</param>
internal sealed class GroupSearch(
    GraphWork work,
    UnitFacts facts,
    IReadOnlyList<PrunableGroup> groups,
    IReadOnlyList<UnitOrder> orders,
    ShrinkOptions options
)
{
    private const double DefaultRatio = 0.3;
    private const int MostRounds = 6;

    private readonly Lazy<IReadOnlyDictionary<string, long>> macs = new(() => work.Limits.CountAsOf(facts.Model.Model));

    /// <summary>Chooses.</summary>
    /// <param name="cut">Cuts units out of the model.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>Units that go of each group, the way there, and latencies where these are limited.</returns>
    public async Task<(int[] Counts, IReadOnlyList<ShrinkPoint> Curve, ShrinkLatency? Latency)> ChooseAsync(
        GroupCut cut,
        CancellationToken cancellation
    )
    {
        var ratio = options.Ratio ?? DefaultRatio;
        if (options.Scope == ShrinkScope.Group)
            return ([.. groups.Select(g => GroupLevels.Of(g.Group.Units, ratio, options))], [], null);
        var (limits, latency) = (Limits(ratio), LatencyWanted.Of(work.Limits, options, ratio));
        var most = limits.Count > 0 ? limits[0].Most : latency!.Least;
        var ladders = groups.Select((g, i) => new MeasuredLadder(GroupLevels.Of(g.Group.Units, options), orders[i].Cost)).ToList();
        var share = Math.Clamp(1 - most, 0.2, 0.6);
        await MeasureAsync(ladders, groups.Select((g, i) => ladders[i].Nearest(share * g.Group.Units)), cut, cancellation);
        for (var round = 0; ; round++)
        {
            GroupLadder[] predicted = [.. ladders.Select(l => l.Predict())];
            var found = latency is null
                ? null
                : await new LatencySearch(work, facts, groups, cut).FindAsync(
                    latency,
                    limit => GroupAllocation.Path(predicted, [.. limits, limit], cancellation),
                    cancellation
                );
            var path = found?.Path ?? GroupAllocation.Path(predicted, limits, cancellation);
            int[] beyond = [.. path[^1].Select((units, i) => ladders[i].IsBeyond(units) ? units : 0)];
            if (round < MostRounds && Array.Exists(beyond, units => units > 0))
            {
                await MeasureAsync(ladders, beyond, cut, cancellation);
                continue;
            }
            var cost = limits.Count > 0 ? limits[0].Cost : found!.Cost;
            return (path[^1], [.. path.Select(p => new ShrinkPoint(cost(p), Math.Sqrt(Loss(p))))], found?.Figures);

            double Loss(int[] counts) => counts.Select((c, i) => predicted[i].LossOf(c)).Sum();
        }
    }

    private async Task MeasureAsync(List<MeasuredLadder> ladders, IEnumerable<int> counts, GroupCut cut, CancellationToken cancellation)
    {
        foreach (var (group, units) in counts.Index().Where(c => c.Item > 0 && work.Trials is not null))
            if (await cut.LossAsync(group, units, options.Refit, cancellation) is { } loss)
                ladders[group].Add(units, loss);
    }

    private List<CostLimit> Limits(double ratio)
    {
        var limits = new List<CostLimit>();
        var given = work.Limits;
        var isLimited = given is not { MacRatio: null, SizeRatio: null, LatencyRatio: null };
        if (options.By != ShrinkCostKind.Latency && (options.Ratio is not null || !isLimited))
            limits.Add(new CostLimit(CostOf(options.By), 1 - ratio));
        if (given.MacRatio is { } most)
            limits.Add(
                new CostLimit(
                    CostOf(ShrinkCostKind.Macs),
                    most * given.MultiplyAccumulates / Math.Max(1, macs.Value.Sum(m => (double)m.Value))
                )
            );
        if (given.SizeRatio is { } size)
            limits.Add(new CostLimit(CostOf(ShrinkCostKind.Bytes), size));
        return limits;
    }

    private Func<IReadOnlyList<int>, double> CostOf(ShrinkCostKind kind)
    {
        var weights = new Dictionary<int, double>();
        var rest = 0.0;
        var places = Weight.Of(facts.Model.Model, facts.Model.Facts.Roots).ToDictionary(w => w.Name, StringComparer.Ordinal);
        foreach (var (name, weight) in places)
            weights[facts.Model.PlaceOf(weight.Tensor)] = kind switch
            {
                ShrinkCostKind.Macs => macs.Value.GetValueOrDefault(name),
                ShrinkCostKind.Parameters => weight.Reference.Elements,
                _ => weight.Reference.Length,
            };
        if (kind == ShrinkCostKind.Macs)
            rest = macs.Value.Where(m => !places.ContainsKey(m.Key)).Sum(m => (double)m.Value);
        return new ShrinkCost(facts.Model, groups, weights, rest).Of;
    }
}
