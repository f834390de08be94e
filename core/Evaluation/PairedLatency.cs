using System.Diagnostics;
using Serverless.Core.Onnx;

namespace Serverless.Core.Evaluation;

/// <summary>What a run takes before and after, from pairs of runs.</summary>
/// <param name="BeforeMs">Median of the original, milliseconds.</param>
/// <param name="AfterMs">Median of the compressed model, milliseconds.</param>
/// <param name="Ratio"><paramref name="AfterMs"/> / <paramref name="BeforeMs"/>.</param>
/// <param name="RatioLow">Lower quartile of the pairs' ratios, at most the ratio.</param>
/// <param name="RatioHigh">Upper quartile of the pairs' ratios, at least the ratio.</param>
/// <param name="Segments">Sessions a run was cut into; 1 for a model run whole.</param>
public sealed record Latency(double BeforeMs, double AfterMs, double Ratio, double RatioLow, double RatioHigh, int Segments)
{
    /// <summary>Whether the difference is larger than the noise of the clock: both quartiles lie on one side of 1.</summary>
    public bool Conclusive => RatioHigh < 1 || RatioLow > 1;

    /// <summary>Of pairs of times.</summary>
    internal static Latency Of(IReadOnlyCollection<(double Before, double After)> times, int segments)
    {
        var (before, after) = (Quantile(times.Select(t => t.Before), 0.5), Quantile(times.Select(t => t.After), 0.5));
        var (ratio, ratios) = (after / before, times.Select(t => t.After / t.Before).ToList());
        return new Latency(before, after, ratio, Math.Min(ratio, Quantile(ratios, 0.25)), Math.Max(ratio, Quantile(ratios, 0.75)), segments);
    }

    /// <summary>The value below which a share of the values lies, between two neighbours by straight line.</summary>
    internal static double Quantile(IEnumerable<double> values, double share)
    {
        var sorted = values.Order().ToList();
        var place = share * (sorted.Count - 1);
        var (low, high) = (sorted[(int)Math.Floor(place)], sorted[(int)Math.Ceiling(place)]);
        return low + (high - low) * (place - Math.Floor(place));
    }
}

/// <summary>
/// Times two models against each other as ONNX Runtime runs them by default: A-B-A-B, so that whatever else the machine does
/// falls on both. Short runs are timed in blocks, of which the median counts: threads of one session spin for a while
/// after its run and would slow the other's.
/// </summary>
internal static class PairedLatency
{
    private const int Rounds = 11;
    private static readonly TimeSpan Block = TimeSpan.FromMilliseconds(5), Limit = TimeSpan.FromSeconds(2);

    /// <summary>Milliseconds of a run before and after, a pair a round, and what the original put out first.</summary>
    public static (List<(double Before, double After)> Times, RunOutputs First) Measure(
        string beforeFolder, ModelIndex before, string afterFolder, ModelIndex after, Sample sample, CancellationToken cancellation)
    {
        using var a = new ModelRunner(beforeFolder, before, byDefault: true);
        using var b = new ModelRunner(afterFolder, after, byDefault: true);
        var times = new List<(double, double)>();
        var started = Stopwatch.StartNew();
        var first = a.Run([sample], cancellation)[0];
        for (var round = 0; round <= Rounds && (times.Count == 0 || started.Elapsed < Limit); round++)
        {
            var pair = (Time(a, sample, cancellation), Time(b, sample, cancellation));
            // The first round warms up.
            if (round > 0 || started.Elapsed > Limit) times.Add(pair);
        }
        return (times, first);
    }

    private static double Time(ModelRunner runner, Sample sample, CancellationToken cancellation)
    {
        var (times, block) = (new List<double>(), Stopwatch.StartNew());
        do times.Add(runner.Run([sample], cancellation)[0].Time.TotalMilliseconds);
        while (block.Elapsed < Block);
        return Latency.Quantile(times, 0.5);
    }
}
