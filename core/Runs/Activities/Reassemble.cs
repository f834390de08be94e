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
/// <param name="Parts">What the run has written, and the steps behind the chain.</param>
public sealed record ReassembleInput(RunRequest Request, int Attempt, RunParts Parts);

/// <summary>The assembled model.</summary>
/// <param name="Bytes">Its size, external data included.</param>
/// <param name="Parameters">Weights of the model.</param>
/// <param name="Nonzero">Those that are not zero after decoding.</param>
public sealed record Reassembled(long Bytes, long Parameters, long Nonzero)
{
    /// <summary>Multiply-accumulates with stored weights of a run of one sample.</summary>
    public long MultiplyAccumulates { get; init; }
}

/// <summary>Puts the coded layers into the graph and streams the model out.</summary>
public sealed class Reassemble : Activity<ReassembleInput, Reassembled>
{
    /// <inheritdoc/>
    public override async Task<Reassembled> RunAsync(ReassembleInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var coded = await CodedModel.ReadAsync(store, request, input.Attempt, input.Parts.IsChanged, cancellation);
        var model = coded.State.Index.Model;
        var (parameters, nonzero) = await coded.CountAsync(Weight.Of(model), cancellation);
        var cost = await RunCost.ReadAsync(store, request.Work, cancellation);
        var macs = MultiplyAccumulates.Total(cost.Of(model).Values);
        var lowered = await coded.LowerAsync(model, input.Parts.Finishing, input.Parts.Calibrated.Contains(request.Stage), cancellation);
        var known = coded.State.Facts;
        var facts = known with { LayerNotes = lowered.Notes, Warnings = [.. known.Warnings, .. lowered.Warnings] };
        var seconds = recipe.LoadSeconds ?? EntropyCoding.DefaultSeconds(parameters);
        if (recipe.Store == Store.Small)
            (model, facts) = await EncodeAsync(lowered, model, seconds, facts, cancellation);
        await store.WriteJsonAsync(RunPaths.Lowered(request.State, input.Attempt), facts, cancellation);
        Finish(model, recipe);
        var bytes = await ModelWriter.WriteAsync(
            store,
            model,
            coded.State.Index.Folder,
            coded.State.ETags,
            RunPaths.Assembled(request.Work, input.Attempt),
            ModelWriter.ProtobufLimit,
            cancellation
        );
        return new Reassembled(bytes, parameters, nonzero) { MultiplyAccumulates = macs };
    }

    // What layers save is theirs: their codes lie in shards of their own.
    private static async Task<(ModelProto Model, StateFacts Facts)> EncodeAsync(
        LoweringWork lowered,
        ModelProto model,
        double seconds,
        StateFacts facts,
        CancellationToken cancellation
    )
    {
        (model, var entropy, var whyNot) = await CodedConstants.ApplyAsync(lowered.ReadAsync, model, seconds, cancellation);
        var saved = lowered
            .Coded.Values.Where(l => entropy?.Saved.ContainsKey(ModelWriter.InStore(l.Shard)) == true)
            .ToDictionary(l => l.Weight.Name, l => entropy!.Saved[ModelWriter.InStore(l.Shard)], StringComparer.Ordinal);
        return (
            model,
            facts with
            {
                SavedByCoding = saved,
                Entropy = entropy,
                Warnings = whyNot is null ? facts.Warnings : [.. facts.Warnings, whyNot],
            }
        );
    }

    /// <summary>Lets the steps of a recipe finish a model with its layers in place.</summary>
    internal static void Finish(ModelProto model, Recipe recipe)
    {
        foreach (var step in recipe.Steps)
            (step.Technique as GraphTechnique)?.Finish(model, step.Typed);
    }
}
