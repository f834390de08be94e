using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="MeasureLayers"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="From">The first layer.</param>
/// <param name="Count">How many.</param>
public sealed record MeasureInput(RunRequest Request, int From, int Count);

/// <summary>How many layers were measured.</summary>
public sealed record LayersMeasured(int Layers);

/// <summary>What each choice for a layer takes and costs.</summary>
/// <param name="Made">Each choice's encoding; none when the layer cannot be compressed at all.</param>
/// <param name="Losses">What each choice is predicted to cost when this layer alone is compressed.</param>
/// <param name="Measured">Choices whose loss was measured; 0 when the model is too large to be run for each layer.</param>
public sealed record LayerSensitivity(IReadOnlyList<StoredLayer> Made, IReadOnlyList<TrialLoss> Losses, int Measured);

/// <summary>
/// Compresses some layers in every way that may be chosen for them. How the ways compare is read from the error weighted by
/// the layer's input where it was observed, else from the weights' own error; what that means for the model is measured: the
/// change of its outputs when this layer alone is compressed.
/// </summary>
public sealed class MeasureLayers : Activity<MeasureInput, LayersMeasured>, IRunsModels
{
    /// <summary>Layers that one activity measures.</summary>
    public const int Most = 4;
    private const int MostRuns = 32,
        Decisions = 320;

    /// <inheritdoc/>
    public override async Task<LayersMeasured> RunAsync(MeasureInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var tasks = (await LayerRecords.TasksAsync(store, request.State, 0, input.From, input.Count, cancellation))
            .Where(t => t.Choices.Count > 0)
            .ToList();
        using var original = await ModelTrial.OpenAsync(store, request, MostRuns, Decisions, cancellation);
        var measured = new LayerSensitivity[tasks.Count];
        await Parallel.ForAsync(
            0,
            tasks.Count,
            new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount },
            async (i, token) =>
            {
                var task = tasks[i];
                using var room = await context.Memory.EnterAsync(task.Plan!.WorkingBytes + original.RunningBytes, token);
                try
                {
                    measured[i] = await MeasureAsync(context, request, task, original, token);
                }
                catch (LayerRefusedException)
                {
                    // Its choices are all the same then: left alone, which CompressLayer says in the report.
                    measured[i] = new LayerSensitivity([], [.. task.Choices.Select(_ => default(TrialLoss))], 0);
                }
            }
        );
        await store.WriteJsonAsync(RunPaths.Sensitivities(request.State, input.From), measured, cancellation);
        return new LayersMeasured(input.Count);
    }

    private static async Task<LayerSensitivity> MeasureAsync(
        ActivityContext context,
        RunRequest request,
        LayerTask task,
        ModelTrial original,
        CancellationToken cancellation
    )
    {
        var made = new List<StoredLayer>();
        foreach (var choice in task.Choices)
            made.Add((await LayerCache.TakeAsync(context, request.Work, request.Shards, choice.Of(task), cancellation)).Stored);
        var weighted = made.All(m => m.Layer.OutputError is not null);
        var proxies = made.Select(m => weighted ? m.Layer.OutputError!.Value : m.Layer.RelativeError * m.Layer.RelativeError).ToList();
        // Losses of the strong settings, up to the reference, are measured one by one: they are too large to grow as squares do. Those of
        // gentler ones follow from the gentlest measured, and those of other settings of a level from the first of the level.
        var scales = new SortedDictionary<(double Level, string Label), TrialLoss>();
        for (var i = 0; i < made.Count && original.Runs; i++)
        {
            var level = Level(i);
            if (level.Level > task.Choices[i].Reference || scales.ContainsKey(level))
                continue;
            scales[level] =
                proxies[i] > 0 ? Times(await original.LossAsync([(task.Name, made[i])], cancellation), 1 / proxies[i]) : default;
        }
        return new LayerSensitivity(
            made,
            [
                .. proxies.Select(
                    (p, i) =>
                        Times(
                            scales.Count == 0 ? new TrialLoss(1, 1)
                                : scales.TryGetValue(Level(i), out var s) ? s
                                : scales.Last().Value,
                            p
                        )
                ),
            ],
            scales.Count
        );

        (double Level, string Label) Level(int i) => (task.Choices[i].Level, task.Choices[i].Label);
    }

    private static TrialLoss Times(TrialLoss loss, double by) => new(loss.Outputs * by, loss.Scores * by);
}
