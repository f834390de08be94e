using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// What one process knows of layers, so that it asks the store once for many: tasks that it has read, and which shards there are.
/// </summary>
public sealed class KnownLayers : IDisposable
{
    private const int MostGroups = 256,
        MostShards = 20_000;
    private static readonly TimeSpan ListingAge = TimeSpan.FromSeconds(30);
    private readonly SemaphoreSlim reading = new(1),
        listing = new(1);
    private readonly Dictionary<string, IReadOnlyList<LayerTask>> groups = new(StringComparer.Ordinal);
    private readonly HashSet<string> shards = new(StringComparer.Ordinal);
    private string? listed,
        last;
    private long listedAt;

    /// <summary>A task.</summary>
    /// <exception cref="DamagedWorkException">It is gone.</exception>
    internal async Task<LayerTask> TaskAsync(IArtifactStore store, CompressInput input, CancellationToken cancellation)
    {
        var from = input.Index / LayerRecords.TasksTogether * LayerRecords.TasksTogether;
        var path = RunPaths.Tasks(input.Work, input.Attempt, input.Tasks, from);
        await reading.WaitAsync(cancellation);
        try
        {
            if (!groups.TryGetValue(path, out var group))
            {
                if (groups.Count >= MostGroups)
                    groups.Clear();
                group = groups[path] = await store.ReadJsonAsync<IReadOnlyList<LayerTask>>(path, cancellation);
            }
            return input.Index - from < group.Count
                ? group[input.Index - from]
                : throw new DamagedWorkException($"{path} has no task {input.Index}.");
        }
        finally
        {
            reading.Release();
        }
    }

    /// <summary>
    /// Whether there is a shard. Blobs are listed, thousands a call, again after half a minute; what comes after the first
    /// 20,000 is looked for by itself. A shard that appears between two listings is made once more.
    /// </summary>
    internal async Task<bool> HasShardAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        if (store is not BlobStore)
            return await store.FindAsync(path, cancellation) is not null;
        await listing.WaitAsync(cancellation);
        try
        {
            if (listed != StorePath.Parent(path) || Environment.TickCount64 - listedAt > ListingAge.TotalMilliseconds)
                await ListAsync(store, StorePath.Parent(path), cancellation);
            if (shards.Contains(path))
                return true;
            if (last is null || string.CompareOrdinal(path, last) < 0)
                return false;
        }
        finally
        {
            listing.Release();
        }
        return await store.FindAsync(path, cancellation) is not null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        reading.Dispose();
        listing.Dispose();
    }

    private async Task ListAsync(IArtifactStore store, string folder, CancellationToken cancellation)
    {
        shards.Clear();
        (listed, last) = (null, null);
        await foreach (var shard in store.ListAsync(folder + "/", cancellation))
        {
            shards.Add(shard.Path);
            if (shards.Count < MostShards)
                continue;
            last = shard.Path;
            break;
        }
        (listed, listedAt) = (folder, Environment.TickCount64);
    }
}
