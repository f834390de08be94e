using System.Runtime.CompilerServices;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>The model of an attempt: the graph that its chain of steps began with, and the layers that the chain coded.</summary>
/// <param name="store">Where everything is.</param>
/// <param name="request">The run, at the state that the chain began with.</param>
/// <param name="state">That state, or what steps on the coded model made of it.</param>
/// <param name="tasks">The attempt's tasks.</param>
/// <param name="results">What was made of the layers, by name.</param>
internal sealed class CodedModel(
    IArtifactStore store,
    RunRequest request,
    ModelState state,
    IReadOnlyList<LayerTask> tasks,
    IReadOnlyDictionary<string, (LayerTask Task, StoredLayer Stored)> results
)
{
    /// <summary>The graph without its coded layers.</summary>
    public ModelState State => state;

    /// <summary>Reads an attempt.</summary>
    /// <param name="store">The store.</param>
    /// <param name="request">The run, at the state that the chain began with.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="changed">Whether a step on the coded model has changed the graph.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<CodedModel> ReadAsync(
        IArtifactStore store,
        RunRequest request,
        int attempt,
        bool changed,
        CancellationToken cancellation
    )
    {
        var folder = changed ? RunPaths.Coded(request.State, attempt) : request.State;
        var state = await ModelState.ReadAsync(store, request, folder, cancellation);
        var tasks = await LayerRecords.TasksAsync(store, request.State, attempt, cancellation);
        var results = (await LayerRecords.ResultsAsync(store, request.State, attempt, tasks, cancellation))
            .Where(r => r.Stored is not null)
            .ToDictionary(r => r.Figures.Name, r => (tasks[r.Figures.Index], r.Stored!), StringComparer.Ordinal);
        return new CodedModel(store, request, state, tasks, results);
    }

    /// <summary>The coded layers, for a model with these weights.</summary>
    public Dictionary<string, CodedLayer> Layers(IEnumerable<Weight> weights) =>
        weights
            .Where(w => results.ContainsKey(w.Name))
            .Select(w => (Weight: w, Made: results[w.Name]))
            .ToDictionary(
                l => l.Weight.Name,
                l => new CodedLayer(l.Weight, l.Made.Stored.Layer, l.Made.Stored.Shard, l.Made.Task.Plan!, l.Made.Task.Step!.Setting),
                StringComparer.Ordinal
            );

    /// <summary>Puts the coded layers into a graph.</summary>
    /// <param name="model">The graph, or a copy of it.</param>
    /// <param name="finishing">Steps behind the chain.</param>
    /// <param name="calibrated">Whether values were observed; null where that is not known.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task<LoweringWork> LowerAsync(
        ModelProto model,
        IReadOnlyList<RecipeStep> finishing,
        bool? calibrated,
        CancellationToken cancellation
    )
    {
        var weights = Weight.Of(model);
        var calibration = await RunParts.ReadAsync<CalibrationPlan>(store, RunPaths.Calibration(request.State), calibrated, cancellation);
        var synthetic = calibration?.Source == Comparison.Synthetic;
        var edit = new ModelEdit(model);
        var work = new LoweringWork(edit, weights, Layers(weights))
        {
            TooSmall = tasks
                .Where(t => t.SkipReason?.StartsWith(LayerTasks.TooSmall, StringComparison.Ordinal) == true)
                .Select(t => t.Name)
                .ToHashSet(StringComparer.Ordinal),
            ReadAsync = ReadAsync,
            ReadShardAsync = ReadShardAsync,
            ObservedAsync = (kind, token) => ObservedAsync(calibration, kind, token),
            MostGrowth =
                synthetic && InputSpec.WhyNone(model) is null
                    ? SyntheticInputs.MostGrowth(InputSpec.Of(model, request.State))
                    : double.PositiveInfinity,
            Synthetic = synthetic,
        };
        var lowerings = new List<Lowering>();
        foreach (var step in finishing)
            if (await ((GraphTechnique)step.Technique).LowerAsync(work, step.Typed, cancellation) is { } lowering)
                lowerings.Add(lowering);
        Form.Prepare(edit, work.Coded.Values.Select(c => c.Layer));
        using (edit.Batch(weights.Select(w => ModelEdit.Outermost(w.Scope)).Distinct()))
            foreach (var layer in weights.Where(w => work.Coded.ContainsKey(w.Name)).Select(w => work.Coded[w.Name]))
                if (!lowerings.Any(l => l.Take(layer)))
                    Form.Apply(edit, layer.Weight, layer.Layer, layer.Shard);
        foreach (var lowering in lowerings)
            await lowering.FinishAsync(cancellation);
        return work;
    }

    /// <summary>Weights of the model, and those that are not zero after decoding.</summary>
    public async Task<(long Parameters, long Nonzero)> CountAsync(IReadOnlyList<Weight> weights, CancellationToken cancellation)
    {
        long nonzero = 0;
        foreach (var weight in weights)
            nonzero += results.TryGetValue(weight.Name, out var made)
                ? made.Stored.Layer.Nonzero
                : await WeightData.NonzeroAsync(store, weight, state.Index.Folder, state.ETags, cancellation);
        return (weights.Sum(w => w.Reference.Elements), nonzero);
    }

    private async IAsyncEnumerable<(IReadOnlyList<InputView> Views, InputStatistics Statistics)> ObservedAsync(
        CalibrationPlan? calibration,
        StatisticKinds kind,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        await using var observed = new ObservedStatistics(store, request.State);
        foreach (var o in calibration?.Observations.Where(o => o.Wanted.HasFlag(kind)) ?? [])
            yield return (o.Views, await observed.ReadAsync(o.Index, cancellation));
    }

    private async Task<ReadOnlyMemory<byte>> ReadAsync(TensorProto tensor, CancellationToken cancellation)
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        return reference.File is null
            ? TensorRef.InlineBytes(tensor)
            : await WeightData.Of(reference, state.Index.Folder, state.ETags).BytesAsync(store, cancellation);
    }

    private Task<byte[]> ReadShardAsync(string shard, ShardRange range, CancellationToken cancellation) =>
        new WeightData(shard, null, range.Offset, range.Length, 0).BytesAsync(store, cancellation);
}
