using Serverless.Core.Execution;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>How fast a model is to become.</summary>
/// <param name="OfOriginal">Largest latency over that of the original; null where it is not limited.</param>
/// <param name="OfFound">Largest latency over that of the model as the step finds it; null where it is not limited.</param>
internal sealed record LatencyWanted(double? OfOriginal, double? OfFound)
{
    /// <summary>The smallest of both, as a first guess.</summary>
    public double Least => Math.Min(OfOriginal ?? 1, OfFound ?? 1);

    /// <summary>Of a recipe; null where it does not speak of latency.</summary>
    /// <param name="limits">The budget.</param>
    /// <param name="options">The step's options.</param>
    /// <param name="ratio">Share that goes.</param>
    public static LatencyWanted? Of(ModelLimits limits, ShrinkOptions options, double ratio)
    {
        var isLimited = limits is not { MacRatio: null, SizeRatio: null, LatencyRatio: null };
        var wanted = new LatencyWanted(
            limits.LatencyRatio,
            options.By == ShrinkCostKind.Latency && (options.Ratio is not null || !isLimited) ? 1 - ratio : null
        );
        return wanted is { OfOriginal: null, OfFound: null } ? null : wanted;
    }
}

/// <summary>
/// Finds units whose removal makes a model as fast as wanted. A table of operators predicts it, then the cut model is timed against the
/// original; where it is off, the prediction's limit is corrected by the quotient and the units are chosen again.
/// </summary>
/// <param name="work">The model and its trials.</param>
/// <param name="facts">The model, and what its layers take.</param>
/// <param name="groups">The groups.</param>
/// <param name="cut">Cuts units out of the model.</param>
internal sealed class LatencySearch(GraphWork work, UnitFacts facts, IReadOnlyList<PrunableGroup> groups, GroupCut cut)
{
    /// <summary>A measured latency counts as what was wanted when it is off by no more.</summary>
    public const double Near = 0.03;

    private const int MostCorrections = 4;
    private Start? start;

    /// <summary>Finds them; the model as it is found is timed, and its operators looked up, the first time.</summary>
    /// <param name="wanted">How fast.</param>
    /// <param name="allocate">Chooses units under a limit of predicted latency; the last of the path is the choice.</param>
    /// <param name="cancellation">Cancels the search.</param>
    /// <returns>The path of the choice, the cost along it, and figures.</returns>
    public async Task<LatencyFound> FindAsync(
        LatencyWanted wanted,
        Func<CostLimit, IReadOnlyList<int[]>> allocate,
        CancellationToken cancellation
    )
    {
        start ??= await StartAsync(cancellation);
        var (found, cost, ratioNow) = (start.Found, start.Cost, start.Found?.Ratio ?? 1);
        var target = Math.Min(wanted.OfOriginal ?? double.MaxValue, ratioNow * wanted.OfFound ?? double.MaxValue);
        var tries = new List<(IReadOnlyList<int[]> Path, double Limit, double Predicted, double? Measured)>();
        for (var limit = target / ratioNow; tries.Count <= MostCorrections; )
        {
            var path = allocate(new CostLimit(ShrinkCostKind.Latency, cost.Of, limit));
            var counts = path[^1];
            if (tries.Any(t => t.Path[^1].AsSpan().SequenceEqual(counts)))
                break;
            var predicted = cost.Of(counts);
            var measured = found is null ? null : await TimeAsync(counts, found, cancellation);
            tries.Add((path, limit, predicted, measured));
            if (measured is not { } ratio || Math.Abs(ratio / target - 1) <= Near)
                break;
            limit = Next(limit * target / ratio, tries.Select(t => (t.Limit, t.Measured <= target)));
        }
        var met = tries.Where(t => t.Measured is null || t.Measured <= (1 + Near) * target).ToList();
        var best = met.Count > 0 ? met.MaxBy(t => t.Limit) : tries.MinBy(t => t.Measured);
        var figures = new ShrinkLatency(target, ratioNow, ratioNow * best.Predicted, best.Measured, tries.Count)
        {
            Layers = start.Predicts.Layers,
            TableEntries = start.Times.Count,
            TableMeasured = start.Times.Measured - start.MeasuredBefore,
            Tried = [.. tries.Select(t => new LatencyTry(ratioNow * t.Predicted, t.Measured))],
        };
        return new LatencyFound(best.Path, cost.Of, figures);
    }

    private async Task<Start> StartAsync(CancellationToken cancellation)
    {
        var found = work.Trials is null ? null : await work.TimeAsync(work.Model, cancellation);
        var times = work.Trials is { } trials
            ? await trials.TimesAsync(cancellation)
            : new OperatorTimes(OperatorTimer.Machine, OperatorTimer.Measure);
        var (predicts, before) = (new LatencyModel(facts.Model, work.Limits, times), times.Measured);
        return new Start(found, times, before, predicts, predicts.Cost(groups, found?.Milliseconds, cancellation));
    }

    // The latency falls in steps: what lies outside of the limits that are known to be too loose and tight enough is no better than these.
    private static double Next(double guess, IEnumerable<(double Limit, bool Met)> tried)
    {
        var known = tried.ToLookup(t => t.Met, t => t.Limit);
        var (tight, loose) = (known[true].DefaultIfEmpty(0).Max(), known[false].Append(1).Min());
        return tight >= loose || guess > tight && guess < loose ? guess : (tight + loose) / 2;
    }

    // Values make no difference to it, so nothing is refitted.
    private async Task<double?> TimeAsync(int[] counts, ModelTime found, CancellationToken cancellation)
    {
        if (Array.TrueForAll(counts, c => c == 0))
            return found.Ratio;
        var model = await facts.Model.CutAsync(cut.Units(counts), new Dictionary<int, float[]>(), [], cancellation);
        return (await work.TimeAsync(model.Model, cancellation))?.Ratio;
    }

    private sealed record Start(ModelTime? Found, OperatorTimes Times, int MeasuredBefore, LatencyModel Predicts, LatencyCost Cost);
}

/// <summary>Units whose removal makes a model as fast as wanted.</summary>
/// <param name="Path">The choices on the way.</param>
/// <param name="Cost">The latency predicted of each, over that of the model as the step found it.</param>
/// <param name="Figures">For the report.</param>
internal sealed record LatencyFound(IReadOnlyList<int[]> Path, Func<IReadOnlyList<int>, double> Cost, ShrinkLatency Figures);
