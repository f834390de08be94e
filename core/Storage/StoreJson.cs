using System.Text.Json;

namespace Serverless.Core.Storage;

/// <summary>Small objects of a store as bytes, text and JSON records.</summary>
public static class StoreJson
{
    /// <summary>Reads a whole object.</summary>
    /// <param name="store">The store.</param>
    /// <param name="path">The object.</param>
    /// <param name="limit">Largest size read.</param>
    /// <param name="cancellation">Cancels the call.</param>
    /// <param name="etag">The version expected, or null for whatever is there.</param>
    /// <exception cref="BadInputException">It is larger than <paramref name="limit"/>, absent, or another version.</exception>
    public static async Task<byte[]> ReadBytesAsync(
        this IArtifactStore store,
        string path,
        long limit,
        CancellationToken cancellation,
        string? etag = null
    )
    {
        await using var reader = await store.OpenAsync(path, etag, cancellation);
        if (reader.Artifact.Length > limit)
            throw new BadInputException($"{path}: {reader.Artifact.Length} bytes is more than the {limit} allowed here.");
        var bytes = new byte[reader.Artifact.Length];
        await reader.ReadAsync(0, bytes, cancellation);
        return bytes;
    }

    /// <summary>Reads a record.</summary>
    public static async Task<T> ReadJsonAsync<T>(this IArtifactStore store, string path, CancellationToken cancellation) =>
        JsonSerializer.Deserialize<T>(await store.ReadBytesAsync(path, 64 << 20, cancellation), Json.Options)!;

    /// <summary>Writes a record.</summary>
    public static Task<Artifact> WriteJsonAsync<T>(this IArtifactStore store, string path, T value, CancellationToken cancellation) =>
        store.WriteBytesAsync(path, JsonSerializer.SerializeToUtf8Bytes(value, Json.Options), cancellation);

    /// <summary>Writes an object.</summary>
    public static Task<Artifact> WriteBytesAsync(
        this IArtifactStore store,
        string path,
        ReadOnlyMemory<byte> bytes,
        CancellationToken cancellation
    ) => store.WriteAsync(path, async (stream, token) => await stream.WriteAsync(bytes, token), cancellation);
}
