using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Activations;

/// <summary>What is known of a value from the samples.</summary>
/// <param name="Scale">Its scale as codes.</param>
/// <param name="Elements">Its elements a sample.</param>
/// <param name="Growth">How many times larger it gets from quiet to loud synthetic samples where that is more than one range serves; else
/// 1.</param>
public readonly record struct ObservedValue(CodeScale Scale, double Elements, double Growth = 1);

/// <summary>Scales and sizes of the values that were observed as a whole.</summary>
internal static class ActivationScales
{
    /// <summary>Value → what is known of it; values that no sample reached are left out.</summary>
    /// <param name="work">The model.</param>
    /// <param name="how">How the range of a value is chosen.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<IReadOnlyDictionary<string, ObservedValue>> ReadAsync(
        LoweringWork work,
        Func<string, ActivationRounding> how,
        CancellationToken cancellation
    )
    {
        var scales = new Dictionary<string, ObservedValue>(StringComparer.Ordinal);
        await foreach (var (views, statistics) in work.ObservedAsync(StatisticKinds.Histogram, cancellation))
        {
            if (views is not [{ Axis: 0, Value: var value }] || statistics.Samples == 0)
                continue;
            var rounding = how(value);
            var (min, max) = ActivationRange.Find(statistics, rounding.Range, rounding.Percentile);
            var growth = statistics.Quietest > 0 ? MathF.Max(-statistics.Min, statistics.Max) / statistics.Quietest : 1;
            scales[value] = new ObservedValue(
                CodeScale.Of(min, max),
                (double)statistics.Histogram!.Counts.Sum() / statistics.Samples,
                growth <= work.MostGrowth ? 1 : growth
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
