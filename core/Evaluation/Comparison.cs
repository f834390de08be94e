using System.Diagnostics;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Model;

namespace Serverless.Core.Evaluation;

/// <summary>What is compared.</summary>
/// <param name="Time">After this long no more samples are taken; at least 32 are, where there are so many.</param>
public sealed record ComparisonOptions(TimeSpan Time)
{
    /// <summary>Most samples, or null for as many as the time allows, 10,000 at most.</summary>
    public int? Samples { get; init; }

    /// <summary>Whether the models are timed against each other.</summary>
    public bool Latency { get; init; } = true;

    /// <summary>Whether a result that looks slower is timed for longer, as something is decided by it.</summary>
    public bool Decides { get; init; }

    /// <summary>
    /// The largest ratio of latencies that a budget takes: near it the models are timed for longer. Null where there is none.
    /// </summary>
    public double? MostLatencyRatio { get; init; }
}

/// <summary>Runs both models on the same inputs and compares.</summary>
public static class Comparison
{
    /// <summary>Source of inputs that came with the drop.</summary>
    public const string Data = "data";

    /// <summary>Source of inputs made up from the model's input types.</summary>
    public const string Synthetic = "synthetic";

    /// <summary>Source where there are no inputs to run the models on.</summary>
    public const string None = "none";

    private const int SegmentedSamples = 8,
        MostSamples = 10_000,
        Chunk = 32,
        Few = 16;

    /// <summary>Compares two models.</summary>
    /// <param name="beforeFolder">Local folder of the original.</param>
    /// <param name="before">The original's index.</param>
    /// <param name="afterFolder">Local folder of the compressed model.</param>
    /// <param name="after">Its index.</param>
    /// <param name="data">The data, or null for synthetic inputs.</param>
    /// <param name="calibrated">Runs at the start of the data that techniques have seen: not compared on.</param>
    /// <param name="options">What is compared.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="BadInputException">ONNX Runtime cannot run the original on these inputs.</exception>
    public static ComparisonResult Compare(
        string beforeFolder,
        ModelIndex before,
        string afterFolder,
        ModelIndex after,
        NpzData? data,
        int calibrated,
        ComparisonOptions options,
        CancellationToken cancellation
    )
    {
        if (InputSpec.WhyNone(before.Model) is { } why)
            return Loaded(beforeFolder, before, afterFolder, after, why);
        var most = data is null ? SyntheticSamples.Count : Math.Min(MostSamples, data.Runs - calibrated);
        most = Math.Min(most, options.Samples ?? most);
        // Few samples are run in the sessions that are timed: loading takes longer than they do.
        var timed = options.Latency && most <= Few;
        var (original, compressed) = LoadBoth(beforeFolder, before, afterFolder, after, timed);
        using var closed = original;
        var segments = original.Segments;
        if (segments > 1)
            most = Math.Min(most, SegmentedSamples);
        most = Math.Max(0, most);
        var outputs = before.Model.Graph.Output.Select(o => o.Name).Distinct().ToList();
        var (fidelity, repeated) = (new Fidelity(), new Fidelity());
        var (count, clock) = (0, Stopwatch.StartNew());
        var segmentedTimes = new List<(double, double)>();
        var zeros = new ZeroInputs();
        (Sample Sample, RunOutputs Expected)? first = null;
        Latency? spent = null;
        using (compressed)
        {
            foreach (var (chunk, expected) in Originals(original, beforeFolder, before, data, calibrated, (int)most, cancellation))
            {
                var actual = compressed.Run(chunk, cancellation);
                first ??= (chunk[0], expected[0]);
                if (expected.Count > chunk.Count)
                    repeated.Add(outputs, expected[0].Outputs, expected[^1].Outputs, null);
                for (var i = 0; i < chunk.Count; i++)
                {
                    fidelity.Add(outputs, expected[i].Outputs, actual[i].Outputs, chunk[i].Labels, chunk[i].Group);
                    if (segments > 1)
                        segmentedTimes.Add((expected[i].Time.TotalMilliseconds, actual[i].Time.TotalMilliseconds));
                    zeros.See(chunk[i]);
                }
                count += chunk.Count;
                if (clock.Elapsed > options.Time)
                    break;
            }
            if (first is null)
                throw new BadInputException($"{data?.Path ?? before.Path}: no sample is left to compare the models on; add some.");
            if (segments > 1)
                spent = Latency.Of(segmentedTimes.Count > 1 ? segmentedTimes[1..] : segmentedTimes, segments);
            else if (timed)
                spent = Latency.Of(
                    PairedLatency.Measure(
                        original,
                        compressed,
                        first.Value.Sample,
                        options.Decides,
                        options.MostLatencyRatio,
                        null,
                        cancellation
                    ),
                    1
                );
        }
        // No more than two sessions are open at a time.
        original.Dispose();
        // Random operators draw on from run to run: only another session draws the same.
        if (original.IsSeeded)
            using (var again = new ModelRunner(beforeFolder, before))
                repeated.Add(outputs, first.Value.Expected.Outputs, again.Run([first.Value.Sample], cancellation)[0].Outputs, null);
        if (options.Latency && spent is null)
        {
            // Outputs compared so far are garbage, and loading takes the most memory.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            var (a, b) = LoadBoth(beforeFolder, before, afterFolder, after, byDefault: true);
            using (a)
            using (b)
                spent = Latency.Of(
                    PairedLatency.Measure(a, b, first.Value.Sample, options.Decides, options.MostLatencyRatio, null, cancellation),
                    1
                );
        }
        return ComparisonResult.Of(data is not null ? Data : Synthetic, count, fidelity, spent) with
        {
            Outputs = fidelity.Outputs,
            LoadBefore = original.Load,
            LoadAfter = compressed.Load,
            RepeatError = repeated.RelativeError,
            LabelsOutside = fidelity.LabelsOutside,
            ZeroInputs = data is null ? [] : zeros.Names,
            NotCompared =
                fidelity.Cosine is null && fidelity.Top1Agreement is null
                    ? "no output of the original holds a finite number other than zero, or a label"
                    : null,
        };
    }

    // Samples in chunks with the original's outputs. The first sample is run twice, its second outputs the last of the first chunk's.
    private static IEnumerable<(IReadOnlyList<Sample> Samples, IReadOnlyList<RunOutputs> Expected)> Originals(
        ModelRunner original,
        string folder,
        ModelIndex index,
        NpzData? data,
        int calibrated,
        int most,
        CancellationToken cancellation
    )
    {
        if (most == 0)
            yield break;
        if (data is null && !original.IsSeeded)
        {
            yield return SyntheticSamples.MakeAndRun(original, index, most, cancellation);
            yield break;
        }
        var samples = data is not null ? data.Read(calibrated, cancellation) : Seeded();
        var again = !original.IsSeeded;
        foreach (var chunk in samples.Take(most).Chunk(Chunk))
        {
            yield return (chunk, RunOriginal(original, index, data, again ? [.. chunk, chunk[0]] : chunk, cancellation));
            again = false;
        }

        // Sizes of inputs are found by trying, in a session of its own where random operators go on from run to run.
        IEnumerable<Sample> Seeded()
        {
            using var trial = Load(folder, index, index);
            return [.. SyntheticSamples.Make(trial, index, 0, most, cancellation)];
        }
    }

    // Both are at least loaded where they cannot be run.
    private static ComparisonResult Loaded(string beforeFolder, ModelIndex before, string afterFolder, ModelIndex after, string why)
    {
        var (original, compressed) = LoadBoth(beforeFolder, before, afterFolder, after, byDefault: false);
        using (original)
        using (compressed)
            return new ComparisonResult(None, 0, null, null, null, null, null, 0, null) { NotCompared = why };
    }

    // The compressed model first: while its weights are decoded, loading it takes the most memory. Where neither loads, the original is to
    // blame.
    private static (ModelRunner Original, ModelRunner Compressed) LoadBoth(
        string beforeFolder,
        ModelIndex before,
        string afterFolder,
        ModelIndex after,
        bool byDefault
    )
    {
        ModelRunner compressed;
        try
        {
            compressed = new ModelRunner(afterFolder, after, byDefault: byDefault);
        }
        catch (OnnxRuntimeException)
        {
            Load(beforeFolder, before, before).Dispose();
            throw;
        }
        try
        {
            return (Load(beforeFolder, before, before, byDefault), compressed);
        }
        catch
        {
            compressed.Dispose();
            throw;
        }
    }

    /// <summary>Loads a model that is, or computes the same as, the original.</summary>
    /// <param name="folder">Local folder that holds it.</param>
    /// <param name="index">Its index.</param>
    /// <param name="named">The original, for errors.</param>
    /// <param name="byDefault">As ONNX Runtime runs it by default.</param>
    /// <exception cref="BadInputException">ONNX Runtime does not load it.</exception>
    internal static ModelRunner Load(string folder, ModelIndex index, ModelIndex named, bool byDefault = false)
    {
        try
        {
            return new ModelRunner(folder, index, byDefault: byDefault, inRanges: true);
        }
        catch (OnnxRuntimeException e)
        {
            throw SyntheticSamples.CannotRun(named, e);
        }
    }

    private static IReadOnlyList<RunOutputs> RunOriginal(
        ModelRunner runner,
        ModelIndex index,
        NpzData? data,
        IReadOnlyList<Sample> samples,
        CancellationToken cancellation
    )
    {
        try
        {
            return runner.Run(samples, cancellation);
        }
        catch (Exception e) when (e is OnnxRuntimeException or TimeoutException)
        {
            throw SyntheticSamples.CannotRun(index, e, data);
        }
    }
}
