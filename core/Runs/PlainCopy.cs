using System.Diagnostics;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>How fast the store copies a large model's bytes: a bound of what a run of it can reach.</summary>
internal static class PlainCopy
{
    private const long Large = 256L << 20,
        Sample = 64L << 20;

    /// <summary>Copies the first 64 MB of the model's largest file within the store and deletes the copy.</summary>
    /// <returns>Bytes a second; null for models below 256 MB.</returns>
    /// <param name="store">The store.</param>
    /// <param name="index">The model.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="cancellation">Cancels the copy.</param>
    /// <param name="largeFrom">Bytes of the smallest model that is copied from.</param>
    public static async Task<double?> MeasureAsync(
        IArtifactStore store,
        ModelIndex index,
        string work,
        CancellationToken cancellation,
        long largeFrom = Large
    )
    {
        if (index.Bytes < largeFrom)
            return null;
        var largest = index.Files.Values.MaxBy(f => f.Length)!;
        var (bytes, copy) = (Math.Min(Sample, largest.Length), $"{work}/copy.bin");
        await using var source = await store.OpenAsync(largest.Path, largest.ETag, cancellation);
        var clock = Stopwatch.StartNew();
        await store.WriteAsync(copy, (stream, token) => source.CopyToAsync(0, bytes, stream, token), cancellation);
        var seconds = clock.Elapsed.TotalSeconds;
        await store.DeleteAsync(copy, cancellation);
        return bytes / seconds;
    }
}
