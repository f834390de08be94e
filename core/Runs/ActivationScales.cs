using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Activations;

namespace Serverless.Core.Runs;

/// <summary>Scales and sizes of the values that were observed as a whole.</summary>
internal static class ActivationScales
{
    /// <summary>Value → what is known of it; values that no sample reached are left out.</summary>
    /// <param name="store">The store.</param>
    /// <param name="state">Store folder of the state that was observed.</param>
    /// <param name="model">The model.</param>
    /// <param name="how">How the range of a value is chosen.</param>
    /// <param name="calibrated">Whether values were observed; null where that is not known.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<IReadOnlyDictionary<string, ObservedValue>> ReadAsync(
        IArtifactStore store,
        string state,
        ModelProto model,
        Func<string, ActivationRounding> how,
        bool? calibrated,
        CancellationToken cancellation
    )
    {
        var scales = new Dictionary<string, ObservedValue>(StringComparer.Ordinal);
        if (await RunParts.ReadAsync<CalibrationPlan>(store, RunPaths.Calibration(state), calibrated, cancellation) is not { } calibration)
            return scales;
        var most = InputSpec.WhyNone(model) is null ? SyntheticInputs.MostGrowth(InputSpec.Of(model, state)) : double.PositiveInfinity;
        await using var observed = new ObservedStatistics(store, state);
        foreach (var o in calibration.Observations.Where(o => o.Views is [{ Axis: 0 }] && o.Wanted.HasFlag(StatisticKinds.Histogram)))
        {
            var statistics = await observed.ReadAsync(o.Index, cancellation);
            if (statistics.Samples == 0)
                continue;
            var rounding = how(o.Views[0].Value);
            var (min, max) = ActivationRange.Find(statistics, rounding.Range, rounding.Percentile);
            var growth = statistics.Quietest > 0 ? MathF.Max(-statistics.Min, statistics.Max) / statistics.Quietest : 1;
            if (calibration.Source != Comparison.Synthetic || growth <= most)
                growth = 1;
            scales[o.Views[0].Value] = new ObservedValue(
                CodeScale.Of(min, max),
                (double)statistics.Histogram!.Counts.Sum() / statistics.Samples,
                growth
            );
        }
        return scales;
    }

    /// <summary>
    /// How the range of each value is chosen, by the layers that take or make it: as most layers do, unless one of those is treated
    /// otherwise, by a rule of the recipe.
    /// </summary>
    /// <param name="layers">Integer layers in the order of the graph, and how each is rounded.</param>
    public static Func<string, ActivationRounding> Roundings(IReadOnlyList<(Weight Weight, ActivationRounding Rounding)> layers)
    {
        var usual = layers.GroupBy(l => l.Rounding).OrderByDescending(g => g.Count()).First().Key;
        var others = new Dictionary<string, ActivationRounding>(StringComparer.Ordinal);
        foreach (var (weight, rounding) in layers.Where(l => l.Rounding != usual))
        {
            foreach (var use in weight.Uses)
            {
                others.TryAdd(use.Node.Input[0], rounding);
                others.TryAdd(QdqGraph.Output(use), rounding);
            }
        }
        return value => others.GetValueOrDefault(value, usual);
    }
}
