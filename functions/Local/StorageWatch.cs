using Serverless.Core;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Drops in the container <c>drop</c> of blob storage; results go to <c>compressed</c>, failures to <c>failed</c>.</summary>
internal sealed class StorageWatch(string storage, string root, string? recipe) : IDropSource
{
    private static readonly string[] Containers = ["drop", "work", "compressed", "failed"];
    private readonly StoreSpec spec = new(new Dictionary<string, string>(), storage);
    private readonly BlobStore store = BlobStore.Connect(storage);

    public string Name => "the container 'drop'";

    public IArtifactStore Results => store;

    public LocalOptions Options(Drop drop, string runId, long? memory) => new(null, root, null, memory);

    public async Task PrepareAsync(CancellationToken cancellation)
    {
        if (recipe is not null) throw new BadInputException("--recipe: with --storage the recipe lies in the drop; upload NAME/recipe.yaml beside the model.");
        await store.EnsureContainersAsync(Containers, cancellation);
    }

    public async Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation) =>
        [.. (await Drop.InAsync(spec, store, cancellation)).Select(d => new DropCandidate(d.Drop.Model, d.State, () => d.Drop))];
}
