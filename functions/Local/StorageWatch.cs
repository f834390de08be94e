using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Drops in the container <c>drop</c> of blob storage; results go to <c>compressed</c>, failures to <c>failed</c>.</summary>
internal sealed class StorageWatch(string storage, string root, string? recipe) : IDropSource
{
    private readonly StoreSpec spec = StoreSpec.Of(storage);
    private readonly BlobStore store = BlobStore.Connect(storage);

    public string Name => "the container 'drop'";

    public IArtifactStore Results => store;

    public LocalOptions Options(Drop drop, string runId, long? memory) => new(null, root, null, memory);

    public async Task PrepareAsync(CancellationToken cancellation)
    {
        if (recipe is not null)
            throw new BadInputException("--recipe: with --storage the recipe lies in the drop; upload NAME/recipe.yaml beside the model.");
        try
        {
            await store.EnsureContainersAsync(RunPaths.Containers, cancellation);
        }
        catch (StorageRefusedException e)
        {
            throw new BadInputException($"--storage: {e.Message}", e);
        }
    }

    public async Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation)
    {
        var found = await StoredDrop.ListAsync(store, StoredDrop.Container, cancellation);
        return
        [
            .. found.Drops.Select(d => new DropCandidate(
                d.Model,
                State(d.Parts),
                () => new Drop(d.Name, d.Model, d.Recipe, d.Data, spec, d.Parts)
            )),
            .. found.Misplaced.Select(m => new DropCandidate(m.Root, State(m.Parts), () => throw new BadInputException(m.Why))),
        ];
    }

    private static string State(IReadOnlyList<Artifact> parts) => string.Join('|', parts.Select(p => $"{p.Path}:{p.ETag}"));
}
