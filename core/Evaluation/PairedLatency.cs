using System.Diagnostics;
using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>
/// What a run takes before and after, from pairs of runs. Times are lower quartiles: whatever else the machine does only adds to them.
/// </summary>
/// <param name="BeforeMs">Of the original, milliseconds.</param>
/// <param name="AfterMs">Of the compressed model, milliseconds.</param>
/// <param name="Ratio"><paramref name="AfterMs"/> / <paramref name="BeforeMs"/>.</param>
/// <param name="RatioLow">Lower end of the ratio's 90 % confidence interval, by the bootstrap (Efron 1979), or the ratio of a quarter of
/// the pairs.</param>
/// <param name="RatioHigh">The upper end of both.</param>
/// <param name="Segments">Sessions a run was cut into; 1 for a model run whole.</param>
public sealed record Latency(double BeforeMs, double AfterMs, double Ratio, double RatioLow, double RatioHigh, int Segments)
{
    private const int Resamples = 400,
        Parts = 4;
    private const double Share = 0.25,
        Tail = 0.05;

    /// <summary>Whether the difference is larger than the noise of the clock: the whole interval lies on one side of 1.</summary>
    public bool Conclusive => RatioHigh < 1 || RatioLow > 1;

    /// <summary>Of pairs of times.</summary>
    internal static Latency Of(IReadOnlyList<(double Before, double After)> times, int segments)
    {
        var (before, after) = Times(times);
        var (ratio, random) = (after / before, new Random(1));
        var drawn = new (double Before, double After)[times.Count];
        var ratios = new double[Resamples];
        for (var i = 0; i < Resamples; i++)
        {
            for (var k = 0; k < drawn.Length; k++)
                drawn[k] = times[random.Next(times.Count)];
            var (x, y) = Times(drawn);
            ratios[i] = y / x;
        }
        // Other work on the machine comes and goes: what one quarter of the time shows has to hold in the others.
        double[] seen =
        [
            ratio,
            Quantile(ratios, Tail),
            Quantile(ratios, 1 - Tail),
            .. Quarters(times).Select(Times).Select(q => q.After / q.Before),
        ];
        return new Latency(before, after, ratio, seen.Min(), seen.Max(), segments);
    }

    /// <summary>The value below which a share of the values lies, between two neighbours by straight line.</summary>
    internal static double Quantile(IEnumerable<double> values, double share)
    {
        var sorted = values.Order().ToList();
        var place = share * (sorted.Count - 1);
        var (low, high) = (sorted[(int)Math.Floor(place)], sorted[(int)Math.Ceiling(place)]);
        return low + (high - low) * (place - Math.Floor(place));
    }

    private static IEnumerable<List<(double Before, double After)>> Quarters(IReadOnlyList<(double Before, double After)> times) =>
        times.Count < 2 * Parts
            ? []
            : Enumerable.Range(0, Parts).Select(p => times.Skip(p * times.Count / Parts).Take(times.Count / Parts).ToList());

    private static (double Before, double After) Times(IReadOnlyList<(double Before, double After)> times) =>
        (Quantile(times.Select(t => t.Before), Share), Quantile(times.Select(t => t.After), Share));
}

/// <summary>
/// Times two models against each other as ONNX Runtime runs them by default: A-B-A-B, so that whatever else the machine does
/// falls on both. Short runs are timed in blocks, of which the median counts: threads of one session spin for a while
/// after its run and would slow the other's.
/// </summary>
internal static class PairedLatency
{
    private const int Rounds = 11,
        MostRounds = 41,
        MostPatientRounds = 241;
    private const double LooksSlower = 1.02;
    private static readonly TimeSpan Block = TimeSpan.FromMilliseconds(5),
        Limit = TimeSpan.FromSeconds(2),
        PatientLimit = TimeSpan.FromSeconds(6);

    /// <summary>Milliseconds of a run before and after, a pair a round.</summary>
    /// <param name="a">The original, loaded as ONNX Runtime does by default.</param>
    /// <param name="b">The compressed model, likewise.</param>
    /// <param name="sample">The sample.</param>
    /// <param name="decides">Looks for longer at a result that looks slower: a plan may change for it.</param>
    /// <param name="limit">Looks for longer while it cannot be told whether the ratio is above this; null for none.</param>
    /// <param name="width">Looks for longer while the ratio's interval is wider than this share of it; null for any.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    public static List<(double Before, double After)> Measure(
        ModelRunner a,
        ModelRunner b,
        Sample sample,
        bool decides,
        double? limit,
        double? width,
        CancellationToken cancellation
    )
    {
        var times = new List<(double, double)>();
        var started = Stopwatch.StartNew();
        var isPatient = limit is not null || width is not null;
        var (most, time) = (
            isPatient ? MostPatientRounds
            : decides ? MostRounds
            : Rounds,
            isPatient ? PatientLimit : Limit
        );
        for (var round = 0; round <= most && (times.Count == 0 || started.Elapsed < time); round++)
        {
            if (round > Rounds && IsTold(Latency.Of(times, 1), decides, limit, width))
                break;
            var pair = (Time(a, sample, cancellation), Time(b, sample, cancellation));
            // The first round warms up.
            if (round > 0 || started.Elapsed > time)
                times.Add(pair);
        }
        return times;
    }

    private static bool IsTold(Latency latency, bool decides, double? limit, double? width) =>
        (!decides || latency is { Ratio: < LooksSlower } or { RatioLow: > LooksSlower })
        && (limit is not { } most || latency.RatioHigh < most || latency.RatioLow > most)
        && (width is not { } share || latency.RatioHigh - latency.RatioLow < share * latency.Ratio);

    private static double Time(ModelRunner runner, Sample sample, CancellationToken cancellation)
    {
        var (times, block) = (new List<double>(), Stopwatch.StartNew());
        do times.Add(runner.Run([sample], cancellation)[0].Time.TotalMilliseconds);
        while (block.Elapsed < Block);
        return Latency.Quantile(times, 0.5);
    }
}
