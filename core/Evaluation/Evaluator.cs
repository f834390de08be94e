using System.Diagnostics;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Onnx;

namespace Serverless.Core.Evaluation;

/// <summary>How the compressed model compares with the original.</summary>
/// <param name="Source"><c>data</c> or <c>synthetic</c>.</param>
/// <param name="Samples">Runs compared.</param>
/// <param name="Cosine">Of the worst output.</param>
/// <param name="RelativeError">Of the worst output.</param>
/// <param name="Top1Agreement">Of the first output, or null.</param>
/// <param name="AccuracyBefore">With labels, else null.</param>
/// <param name="AccuracyAfter">With labels, else null.</param>
/// <param name="Labelled">Labelled rows.</param>
/// <param name="BeforeMs">Median latency of the original, milliseconds.</param>
/// <param name="AfterMs">Median latency of the compressed model, milliseconds.</param>
/// <param name="LatencyRatio">Median of the paired ratios after / before.</param>
/// <param name="Segments">Sessions a run was cut into; 1 for a model run whole.</param>
public sealed record Evaluation(
    string Source, int Samples, double Cosine, double RelativeError, double? Top1Agreement, double? AccuracyBefore, double? AccuracyAfter,
    long Labelled, double BeforeMs, double AfterMs, double LatencyRatio, int Segments)
{
    /// <summary>What a loss budget is about: accuracy when labelled, else top-1 disagreement on data, else 1 − cosine.</summary>
    public (string Measure, double Loss) Loss => AccuracyBefore is { } before && AccuracyAfter is { } after
        ? ("accuracy", Math.Max(0, before - after))
        : Source == Evaluator.Data && Top1Agreement is { } agreement ? ("top1Disagreement", 1 - agreement) : ("cosineDistance", 1 - Cosine);
}

/// <summary>Runs both models on the same inputs and compares.</summary>
public static class Evaluator
{
    /// <summary>Source of inputs that came with the drop.</summary>
    public const string Data = "data";

    /// <summary>Source of inputs made up from the model's input types.</summary>
    public const string Synthetic = "synthetic";

    private const int SegmentedSamples = 8, MostSamples = 10_000, Chunk = 32;

    /// <summary>Compares two models.</summary>
    /// <param name="beforeFolder">Local folder of the original.</param>
    /// <param name="before">The original's index.</param>
    /// <param name="afterFolder">Local folder of the compressed model.</param>
    /// <param name="after">Its index.</param>
    /// <param name="data">The data, or null for synthetic inputs.</param>
    /// <param name="calibrated">Runs at the start of the data that techniques have seen: not compared on.</param>
    /// <param name="time">After this long no more samples are taken; at least 32 are, where there are so many.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="BadInputException">ONNX Runtime cannot run the original on these inputs, or what it makes of them cannot be compared.</exception>
    public static Evaluation Compare(
        string beforeFolder, ModelIndex before, string afterFolder, ModelIndex after, NpzData? data, int calibrated, TimeSpan time, CancellationToken cancellation)
    {
        using var original = Load(beforeFolder, before);
        using var compressed = new ModelRunner(afterFolder, after);
        var samples = data is not null ? data.Read(calibrated, cancellation) : SyntheticSamples.Make(original, before, 0, SyntheticSamples.Count, cancellation);
        var most = original.Segments > 1 ? SegmentedSamples : data is not null ? MostSamples : SyntheticSamples.Count;
        var fidelity = new Fidelity();
        var (count, clock) = (0, Stopwatch.StartNew());
        Sample? first = null;
        var segmentedTimes = new List<(double, double)>();
        foreach (var chunk in samples.Take(most).Chunk(Chunk))
        {
            first ??= chunk[0];
            var expected = RunOriginal(original, before, chunk, cancellation);
            var actual = compressed.Run(chunk, cancellation);
            for (var i = 0; i < chunk.Length; i++)
            {
                Add(fidelity, before, expected[i], actual[i], chunk[i].Labels);
                if (original.Segments > 1) segmentedTimes.Add((expected[i].Time.TotalMilliseconds, actual[i].Time.TotalMilliseconds));
            }
            count += chunk.Length;
            if (clock.Elapsed > time) break;
        }
        if (count == 0) throw new BadInputException($"{before.Path}: the data holds fewer samples than the model takes in one run; add some.");
        var segments = original.Segments;
        // No more than two sessions are open at a time.
        original.Dispose();
        compressed.Dispose();
        var times = segments > 1 ? segmentedTimes.Skip(1).DefaultIfEmpty(segmentedTimes[0]).ToList() : PairedLatency.Measure(beforeFolder, before, afterFolder, after, first!, cancellation);
        return new Evaluation(data is not null ? Data : Synthetic, count, fidelity.Cosine, fidelity.RelativeError, fidelity.Top1Agreement,
            fidelity.AccuracyBefore, fidelity.AccuracyAfter, fidelity.Labelled,
            Median(times.Select(t => t.Item1)), Median(times.Select(t => t.Item2)), Median(times.Select(t => t.Item2 / t.Item1)), segments);
    }

    private static void Add(Fidelity fidelity, ModelIndex model, RunOutputs before, RunOutputs after, long[]? labels)
    {
        try
        {
            fidelity.Add([.. model.Model.Graph.Output.Select(o => o.Name)], before.Outputs, after.Outputs, labels);
        }
        catch (IncomparableException e)
        {
            throw new BadInputException($"{model.Path}: {e.Message}; compress it more gently: with more bits, or without the layers in front of that output.", e);
        }
    }

    private static ModelRunner Load(string folder, ModelIndex index)
    {
        try
        {
            return new ModelRunner(folder, index);
        }
        catch (OnnxRuntimeException e)
        {
            throw SyntheticSamples.CannotRun(index, e);
        }
    }

    private static IReadOnlyList<RunOutputs> RunOriginal(ModelRunner runner, ModelIndex index, IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        try
        {
            return runner.Run(samples, cancellation);
        }
        catch (Exception e) when (e is OnnxRuntimeException or TimeoutException)
        {
            throw SyntheticSamples.CannotRun(index, e);
        }
    }

    internal static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}
