using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Reassemble"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt.</param>
public sealed record ReassembleInput(RunRequest Request, int Attempt)
{
    /// <summary>What the run has written; null where that is not known.</summary>
    public RunParts? Parts { get; init; }
}

/// <summary>The assembled model.</summary>
/// <param name="Bytes">Its size, external data included.</param>
/// <param name="Parameters">Weights of the model.</param>
/// <param name="Nonzero">Those that are not zero after decoding.</param>
public sealed record Reassembled(long Bytes, long Parameters, long Nonzero);

/// <summary>Puts the compressed layers into the graph and streams the model out.</summary>
public sealed class Reassemble : Activity<ReassembleInput, Reassembled>
{
    /// <inheritdoc/>
    public override async Task<Reassembled> RunAsync(ReassembleInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var biases = await RunParts.ReadAsync<BiasCorrections>(
            store,
            RunPaths.Biases(request.Work, input.Attempt),
            input.Parts?.Corrected,
            cancellation
        );
        var built = await AssembledGraph.BuildAsync(
            store,
            request,
            input.Attempt,
            biases is { Layers.Count: > 0 } ? biases.Layers : null,
            input.Parts?.Calibrated,
            cancellation
        );
        await NoteAsync(store, input, built.Floats, cancellation);
        Finish(built.Model, recipe);
        var bytes = await ModelWriter.WriteAsync(
            store,
            built.Model,
            built.Folder,
            built.ETags,
            RunPaths.Assembled(request.Work, input.Attempt),
            ModelWriter.ProtobufLimit,
            cancellation
        );
        return new Reassembled(bytes, built.Parameters, built.Nonzero);
    }

    // Where the graph decided otherwise than the plan, the report says so.
    private static async Task NoteAsync(
        IArtifactStore store,
        ReassembleInput input,
        IReadOnlyDictionary<string, string> floats,
        CancellationToken cancellation
    )
    {
        if (floats.Count == 0)
            return;
        var (work, attempt) = (input.Request.State, input.Attempt);
        var results = await LayerRecords.ResultsAsync(
            store,
            work,
            attempt,
            await LayerRecords.TasksAsync(store, work, attempt, cancellation),
            cancellation
        );
        foreach (var together in results.Chunk(LayerRecords.ResultsTogether).Where(g => g.Any(r => floats.ContainsKey(r.Figures.Name))))
            await LayerRecords.WriteResultsAsync(store, work, attempt, [.. together.Select(Note)], cancellation);

        LayerResult Note(LayerResult result) =>
            !floats.TryGetValue(result.Figures.Name, out var why)
                ? result
                : result with
                {
                    Stored = result.Stored! with
                    {
                        Layer = result.Stored.Layer with { Form = StorageForm.Folded, Fallback = $"weights only: {why}" },
                    },
                };
    }

    /// <summary>Lets the steps of a recipe finish a model with its layers in place.</summary>
    internal static void Finish(ModelProto model, Recipe recipe)
    {
        foreach (var step in recipe.Steps)
            (step.Technique as GraphTechnique)?.Finish(model, step.Typed);
    }
}
