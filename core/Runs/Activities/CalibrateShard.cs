using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="CalibrateShard"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Shard">Which part of the samples.</param>
public sealed record CalibrateInput(RunRequest Request, int Shard);

/// <summary>What was observed.</summary>
/// <param name="Runs">Runs of the model.</param>
public sealed record ShardCalibrated(int Runs);

/// <summary>
/// Runs the model on some of the samples and keeps statistics of the values that techniques ask for, never the values:
/// memory does not grow with the samples.
/// </summary>
public sealed class CalibrateShard : Activity<CalibrateInput, ShardCalibrated>, IRunsModels
{
    // Gram matrices held in memory, all values together; what is beyond lies on disk.
    private const long GramBytes = 192L << 20;

    /// <inheritdoc/>
    public override async Task<ShardCalibrated> RunAsync(CalibrateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        var index = await ModelIndexer.IndexAsync(
            store,
            $"{RunPaths.CalibrationModel(request.State)}/{ModelWriter.ModelName}",
            cancellation
        );
        using var folder = await store.MaterializeAsync(
            index.Folder,
            index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
            cancellation
        );
        var first = input.Shard * calibration.ShardRuns;
        var count = Math.Min(calibration.ShardRuns, calibration.Runs - first);
        using var data = await OpenDataAsync(store, request, index, cancellation);
        var samples =
            data?.Read(first, cancellation).Take(count)
            ?? (count == 0 ? [] : Synthetic(request, first, count, folder.Path, index, cancellation));
        using var observers = new Observers(calibration.Observations);
        var runs = 0;
        try
        {
            await StatisticsSet.WriteAsync(
                store,
                RunPaths.StatisticsPart(request.State, input.Shard),
                async (writer, token) =>
                {
                    runs = await ValueTap.RunAsync(
                        folder.Path,
                        index,
                        observers.Names,
                        samples,
                        observers.See,
                        values => observers.WriteAsync(values, writer, token),
                        token
                    );
                    await observers.WriteAsync([.. observers.Names], writer, token);
                },
                cancellation
            );
        }
        catch (OnnxRuntimeException e)
        {
            throw SyntheticSamples.CannotRun(index with { Path = request.Model }, e, data);
        }
        return new ShardCalibrated(runs);
    }

    /// <summary>Some of the samples that techniques may see, all in memory.</summary>
    internal static async Task<IReadOnlyList<Sample>> SamplesAsync(
        IArtifactStore store,
        RunRequest request,
        int first,
        int count,
        string folder,
        ModelIndex index,
        CancellationToken cancellation
    )
    {
        using var data = await OpenDataAsync(store, request, index, cancellation);
        return data is null
            ? Synthetic(request, first, count, folder, index, cancellation)
            : [.. data.Read(first, cancellation).Take(count)];
    }

    /// <summary>The data that came with the drop, or null.</summary>
    internal static async Task<NpzData?> OpenDataAsync(
        IArtifactStore store,
        RunRequest request,
        ModelIndex index,
        CancellationToken cancellation
    ) =>
        await Evaluate.OpenDataAsync(
            store,
            request,
            index,
            await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation),
            cancellation
        );

    private static IReadOnlyList<Sample> Synthetic(
        RunRequest request,
        int first,
        int count,
        string folder,
        ModelIndex index,
        CancellationToken cancellation
    )
    {
        var named = index with { Path = request.Model };
        using var runner = Comparison.Load(folder, index, named);
        // Other numbers than the samples that models are compared on.
        return [.. SyntheticSamples.Make(runner, named, 1000 + first, count, cancellation)];
    }

    private sealed class Observers : IDisposable
    {
        private readonly Dictionary<string, List<(int Observation, int View, StatisticsObserver Observer)>> byValue = new(
            StringComparer.Ordinal
        );
        private long held;

        public Observers(IEnumerable<Observation> observations)
        {
            foreach (var o in observations)
            {
                for (var v = 0; v < o.Views.Count; v++)
                {
                    if (!byValue.TryGetValue(o.Views[v].Value, out var list))
                        byValue[o.Views[v].Value] = list = [];
                    list.Add((o.Index, v, new StatisticsObserver(o.Views[v], o.Wanted, Spill)));
                }
            }
        }

        public HashSet<string> Names => [.. byValue.Keys];

        public void See(string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
        {
            foreach (var (_, _, observer) in byValue[name])
                observer.Add(values, shape);
        }

        public async Task WriteAsync(IReadOnlyList<string> values, StatisticsSet.Writer writer, CancellationToken cancellation)
        {
            foreach (var name in values)
            {
                if (!byValue.Remove(name, out var list))
                    continue;
                foreach (var (observation, view, observer) in list)
                {
                    await writer.AddAsync(observation, view, stream => StatisticsFile.WriteAsync(stream, observer, cancellation));
                    held -= observer.Held;
                    observer.Dispose();
                }
            }
        }

        public void Dispose()
        {
            foreach (var (_, _, observer) in byValue.Values.SelectMany(v => v))
                observer.Dispose();
        }

        private bool Spill(long bytes)
        {
            lock (byValue)
            {
                if (held + bytes > GramBytes)
                    return true;
                held += bytes;
                return false;
            }
        }
    }
}
