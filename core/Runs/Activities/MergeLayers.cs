using System.Text.Json;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="MergeLayers"/>.</summary>
/// <param name="Request">The run, at the state that the chain began with.</param>
/// <param name="Steps">Steps of the chain.</param>
/// <param name="Allocated">Whether settings of layers were chosen.</param>
public sealed record MergeLayersInput(RunRequest Request, int Steps, bool Allocated);

/// <summary>How many layers changed.</summary>
public sealed record LayersMerged(int Layers);

/// <summary>Puts what a chain of steps made of the layers into the model: the next state, whose layers the next steps see.</summary>
public sealed class MergeLayers : Activity<MergeLayersInput, LayersMerged>
{
    /// <inheritdoc/>
    public override async Task<LayersMerged> RunAsync(MergeLayersInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var state = await ModelState.ReadAsync(store, request, cancellation);
        var tasks = await LayerRecords.TasksAsync(store, request.State, 0, cancellation);
        var results = await LayerRecords.ResultsAsync(store, request.State, 0, tasks, cancellation);
        var edit = new ModelEdit(state.Index.Model);
        var weights = Weight.Of(state.Index.Model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var values = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal);
        var made = results.Where(r => r.Stored is not null).ToList();
        using (edit.Batch(made.Select(r => ModelEdit.Outermost(weights[r.Figures.Name].Scope)).Distinct()))
            foreach (var result in made)
            {
                var (weight, task, layer) = (weights[result.Figures.Name], tasks[result.Figures.Index], result.Stored!.Layer);
                values[task.Name] = Form.Apply(edit, weight, layer, result.Stored.Shard);
                LayerOrigin.Note(state.Facts.Origins, task, values[task.Name], layer.Rank, layer.RelativeError, layer.Nonzero);
            }
        foreach (var task in tasks)
            state.Facts.Note(task, values.GetValueOrDefault(task.Name, []));
        if (input.Allocated)
            state.Facts.Notes["allocation"] = JsonSerializer.SerializeToElement(
                (await store.ReadJsonAsync<AllocationChoice>(RunPaths.Allocation(request.State, 0), cancellation)).Figures,
                Json.Options
            );
        await state.WriteAsync(store, request with { Stage = request.Stage + input.Steps }, cancellation);
        return new LayersMerged(made.Count);
    }
}
