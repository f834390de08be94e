using System.Collections.Concurrent;

namespace Serverless.Core.Storage;

/// <summary>
/// Versions of blobs that this process has seen: one of them is opened again without a call, since every read is conditional on its
/// version. When there are too many, all are forgotten.
/// </summary>
internal sealed class SeenBlobs
{
    private const int Most = 8192;
    private readonly ConcurrentDictionary<string, Artifact> latest = new(StringComparer.Ordinal);

    /// <summary>Notes a version.</summary>
    /// <returns>The same.</returns>
    public Artifact Note(Artifact artifact)
    {
        if (latest.Count >= Most) latest.Clear();
        return latest[artifact.Path] = artifact;
    }

    /// <summary>A version that was seen last of its blob, or null.</summary>
    public Artifact? Find(string path, string etag) => latest.TryGetValue(path, out var seen) && seen.ETag == etag ? seen : null;
}
