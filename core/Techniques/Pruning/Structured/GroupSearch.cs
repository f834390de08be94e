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

    private readonly HashSet<int> unreached = [];
    private readonly Lazy<IReadOnlyDictionary<string, long>> macs = new(() => work.Limits.CountAsOf(facts.Model.Model));

    /// <summary>Chooses.</summary>
    /// <param name="cut">Cuts units out of the model.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task<GroupChoice> ChooseAsync(GroupCut cut, CancellationToken cancellation)
    {
        var ratio = options.Ratio ?? DefaultRatio;
        if (options.Scope == ShrinkScope.Group)
            return new GroupChoice([.. groups.Select(g => GroupLevels.Of(g.Group.Units, ratio, options))]);
        var (limits, latency) = (Limits(ratio), LatencyWanted.Of(work.Limits, options, ratio));
        var most = limits.Count > 0 ? limits[0].Most : latency!.Least;
        var ladders = groups.Select((g, i) => new MeasuredLadder(GroupLevels.Of(g.Group.Units, options), orders[i].Cost)).ToList();
        var share = Math.Clamp(1 - most, 0.2, 0.6);
        await MeasureAsync(ladders, groups.Select((g, i) => ladders[i].Nearest(share * g.Group.Units)), cut, cancellation);
        var search = latency is null ? null : new LatencySearch(work, facts, groups, cut);
        for (var round = 0; ; round++)
        {
            GroupLadder[] predicted = [.. ladders.Select(l => l.Predict())];
            var found = search is null
                ? null
                : await search.FindAsync(
                    latency!,
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
            return new GroupChoice(path[^1])
            {
                Curve = [.. path.Select(p => new ShrinkPoint(cost(p), Math.Sqrt(Loss(p))))],
                Latency = found?.Figures,
                Unreached = unreached,
                MostMacs = limits.Where(l => l.Of == ShrinkCostKind.Macs).Select(l => (double?)l.Most).Min(),
                Missed = found?.Figures.Missed ?? limits.Select(l => l.Missed(path[^1])).FirstOrDefault(m => m is not null),
            };

            double Loss(int[] counts) => counts.Select((c, i) => predicted[i].LossOf(c)).Sum();
        }
    }

    private async Task MeasureAsync(List<MeasuredLadder> ladders, IEnumerable<int> counts, GroupCut cut, CancellationToken cancellation)
    {
        foreach (var (group, units) in counts.Index().Where(c => c.Item > 0 && work.Trials is not null))
        {
            if (await cut.LossAsync(group, units, options.Refit, cancellation) is not { } loss)
                continue;
            ladders[group].Add(units, loss);
            // Without any of its units the outputs are the same.
            if (loss == 0 && await cut.LossAsync(group, ladders[group].Most, refit: false, cancellation) == 0)
            {
                unreached.Add(group);
                ladders[group] = MeasuredLadder.None;
            }
        }
    }

    private List<CostLimit> Limits(double ratio)
    {
        var limits = new List<CostLimit>();
        var given = work.Limits;
        var isLimited = given is not { MacRatio: null, SizeRatio: null, LatencyRatio: null };
        if (options.By != ShrinkCostKind.Latency && (options.Ratio is not null || !isLimited))
            limits.Add(new CostLimit(options.By, CostOf(options.By), 1 - ratio));
        if (given.MacRatio is { } most)
            limits.Add(
                new CostLimit(
                    ShrinkCostKind.Macs,
                    CostOf(ShrinkCostKind.Macs),
                    most * given.MultiplyAccumulates / Math.Max(1, macs.Value.Sum(m => (double)m.Value))
                )
            );
        if (given.SizeRatio is { } size)
            limits.Add(new CostLimit(ShrinkCostKind.Bytes, CostOf(ShrinkCostKind.Bytes), size));
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

/// <summary>How many units go of each group.</summary>
/// <param name="Counts">The units.</param>
internal sealed record GroupChoice(int[] Counts)
{
    /// <summary>The way there.</summary>
    public IReadOnlyList<ShrinkPoint> Curve { get; init; } = [];

    /// <summary>Latencies, where these are limited.</summary>
    public ShrinkLatency? Latency { get; init; }

    /// <summary>Groups without which no sample's outputs change at all, as in a branch that none takes: they stay.</summary>
    public IReadOnlySet<int> Unreached { get; init; } = new HashSet<int>();

    /// <summary>The largest ratio of multiply-accumulates asked for; null where none is.</summary>
    public double? MostMacs { get; init; }

    /// <summary>Why more is left than asked for; else null.</summary>
    public string? Missed { get; init; }
}
