using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="ApplyCodedStep"/>.</summary>
/// <param name="Request">The run, at the state that the chain began with.</param>
/// <param name="Attempt">The attempt.</param>
/// <param name="Finishing">Steps behind the chain.</param>
/// <param name="Index">The one to apply.</param>
public sealed record CodedStepInput(RunRequest Request, int Attempt, IReadOnlyList<RecipeStep> Finishing, int Index) : IPlaceable
{
    IReadOnlyList<string> IPlaceable.Folders => [Request.Work, Request.Shards];
}

/// <summary>A step on the coded model was applied.</summary>
public sealed record CodedStepDone;

/// <summary>Applies a step behind the last chain, which runs the model with its layers coded.</summary>
public sealed class ApplyCodedStep : Activity<CodedStepInput, CodedStepDone>, IRunsModels
{
    /// <inheritdoc/>
    public override async Task<CodedStepDone> RunAsync(CodedStepInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var step = input.Finishing[input.Index];
        var changed = input.Finishing.Take(input.Index).Any(s => s.RunsCoded);
        var coded = await CodedModel.ReadAsync(store, request, input.Attempt, changed, cancellation);
        var state = coded.State;
        var target = RunPaths.Coded(request.State, input.Attempt);
        await using var files = new ScratchFiles(store);
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        var original = await ModelIndexer.IndexAsync(
            store,
            $"{RunPaths.CalibrationModel(request.State)}/{ModelWriter.ModelName}",
            cancellation
        );
        var isData = calibration.Source == Evaluation.Comparison.Data;
        using var data = isData ? await CalibrateShard.OpenDataAsync(store, request, original, cancellation) : null;
        var work = new GraphWork(store, state.Index, state.ETags, target)
        {
            MayRunModel = true,
            Normalized = state.Facts.Normalized,
            Notes = state.Facts.Notes,
            Coded = coded.Layers(Weight.Of(state.Index.Model)),
            Runs = new ModelRuns(original, calibration.Runs, isData)
            {
                FolderAsync = async token => await files.MaterializeAsync(original, token),
                Read = (count, token) => data!.Read(0, token).Take(count),
                LowerAsync = async (model, token) =>
                {
                    var lowered = await coded.LowerAsync(model, input.Finishing, true, token);
                    return new LoweredModel(model, lowered.Biases, await files.WriteAsync(model, state, $"{target}/run", token));
                },
            },
        };
        await ((GraphTechnique)step.Technique).ApplyAsync(work, step.Typed, cancellation);
        await work.FinishAsync(cancellation);
        await state.WriteAsync(store, target, cancellation);
        return new CodedStepDone();
    }

    /// <summary>Files on this machine for as long as a step runs.</summary>
    private sealed class ScratchFiles(IArtifactStore store) : IAsyncDisposable
    {
        private readonly List<LocalFolder> folders = [];
        private readonly List<WrittenModel> written = [];

        public async Task<string> MaterializeAsync(ModelIndex index, CancellationToken cancellation)
        {
            var files = index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag);
            folders.Add(await store.MaterializeAsync(index.Folder, files, cancellation));
            return folders[^1].Path;
        }

        public async Task<string> WriteAsync(Model.Schema.ModelProto model, ModelState state, string target, CancellationToken cancellation)
        {
            // With all its weights in files: layer after layer a part of the model runs from them.
            written.Add(await WrittenModel.WriteAsync(store, model, state.Index.Folder, state.ETags, target, 0, cancellation));
            return written[^1].Folder;
        }

        public async ValueTask DisposeAsync()
        {
            foreach (var folder in folders)
                folder.Dispose();
            foreach (var model in written)
                await model.DisposeAsync();
        }
    }
}
