using System.Diagnostics;
using Serverless.Core.Onnx;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Times two models against each other as ONNX Runtime runs them by default: A-B-A-B, so that whatever else the machine does
/// falls on both. Short runs are timed in blocks, of which the median counts: threads of one session spin for a while
/// after its run and would slow the other's.
/// </summary>
internal static class PairedLatency
{
    private const int Rounds = 11;
    private static readonly TimeSpan Block = TimeSpan.FromMilliseconds(5), Limit = TimeSpan.FromSeconds(2);

    /// <summary>Milliseconds of a run before and after, a pair a round.</summary>
    public static List<(double Before, double After)> Measure(
        string beforeFolder, ModelIndex before, string afterFolder, ModelIndex after, Sample sample, CancellationToken cancellation)
    {
        using var a = new ModelRunner(beforeFolder, before, byDefault: true);
        using var b = new ModelRunner(afterFolder, after, byDefault: true);
        var times = new List<(double, double)>();
        var started = Stopwatch.StartNew();
        for (var round = 0; round <= Rounds && (times.Count == 0 || started.Elapsed < Limit); round++)
        {
            var pair = (Time(a, sample, cancellation), Time(b, sample, cancellation));
            // The first round warms up.
            if (round > 0 || started.Elapsed > Limit) times.Add(pair);
        }
        return times;
    }

    private static double Time(ModelRunner runner, Sample sample, CancellationToken cancellation)
    {
        var (times, block) = (new List<double>(), Stopwatch.StartNew());
        do times.Add(runner.Run([sample], cancellation)[0].Time.TotalMilliseconds);
        while (block.Elapsed < Block);
        return Evaluator.Median(times);
    }
}
