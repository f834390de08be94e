using System.Collections.Concurrent;

namespace Serverless.Core.Storage;

/// <summary>
/// What this process has seen of blobs: versions, so that one of them is opened again without a call, every read being conditional on it;
/// and bytes of small shards, which never change (<see cref="StorePath.Shards"/>). When there is too much, all is forgotten.
/// </summary>
internal sealed class SeenBlobs
{
    private const int MostVersions = 8192,
        LargestKept = 256 << 10;
    private const long MostKept = 32 << 20;
    private readonly ConcurrentDictionary<string, Artifact> latest = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, ArtifactReader> kept = new(StringComparer.Ordinal);
    private long bytes;

    /// <summary>Notes a version.</summary>
    /// <returns>The same.</returns>
    public Artifact Note(Artifact artifact)
    {
        if (latest.Count >= MostVersions)
            latest.Clear();
        // A shard that was damaged and is made anew.
        if (kept.TryGetValue(artifact.Path, out var shard) && shard.Artifact.ETag != artifact.ETag)
            kept.TryRemove(artifact.Path, out _);
        return latest[artifact.Path] = artifact;
    }

    /// <summary>A version, when it is the one of its blob that was seen last.</summary>
    public Artifact? Find(string path, string etag) => latest.TryGetValue(path, out var seen) && seen.ETag == etag ? seen : null;

    /// <summary>Keeps the bytes of a small shard.</summary>
    public async Task KeepAsync(ArtifactReader shard, CancellationToken cancellation)
    {
        if (shard.Artifact.Length is 0 or > LargestKept || StorePath.Parent(shard.Artifact.Path) != StorePath.Shards)
            return;
        var content = new byte[shard.Artifact.Length];
        await shard.ReadAsync(0, content, cancellation);
        if (Interlocked.Add(ref bytes, content.Length) > MostKept)
        {
            kept.Clear();
            Interlocked.Exchange(ref bytes, content.Length);
        }
        kept[shard.Artifact.Path] = new KeptShard(shard.Artifact, content);
    }

    /// <summary>A shard that was kept, or null.</summary>
    public ArtifactReader? Kept(string path) => kept.GetValueOrDefault(path);

    private sealed class KeptShard(Artifact artifact, byte[] content) : ArtifactReader(artifact)
    {
        public override ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellation)
        {
            if (offset < 0 || offset + destination.Length > content.Length)
                throw new EndOfStreamException($"{Artifact.Path} ends at {content.Length}.");
            content.AsMemory((int)offset, destination.Length).CopyTo(destination);
            return ValueTask.CompletedTask;
        }

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
