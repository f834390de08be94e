using System.Buffers.Binary;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Pipeline;

/// <summary>The record of a compressed layer, in the same object behind the layer's bytes: JSON, then its length in 4 bytes, little-endian.</summary>
internal static class ShardRecord
{
    private const int Largest = 1 << 20;

    /// <summary>Appends the record.</summary>
    public static async Task WriteAsync(Stream stream, StoredLayer stored, CancellationToken cancellation)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(stored, Json.Options);
        var length = new byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(length, json.Length);
        await stream.WriteAsync(json, cancellation);
        await stream.WriteAsync(length, cancellation);
    }

    /// <summary>Reads the record of a shard.</summary>
    /// <exception cref="DamagedWorkException">It has none.</exception>
    public static async Task<StoredLayer> ReadAsync(ArtifactReader reader, CancellationToken cancellation)
    {
        var (path, end) = (reader.Artifact.Path, reader.Artifact.Length - sizeof(int));
        if (end < 0) throw new DamagedWorkException($"{path} has no record.");
        var length = new byte[sizeof(int)];
        await reader.ReadAsync(end, length, cancellation);
        var count = BinaryPrimitives.ReadInt32LittleEndian(length);
        if (count <= 0 || count > Math.Min(end, Largest)) throw new DamagedWorkException($"{path}: its record is damaged.");
        var json = new byte[count];
        await reader.ReadAsync(end - count, json, cancellation);
        try
        {
            var stored = JsonSerializer.Deserialize<StoredLayer>(json, Json.Options);
            return stored is { Layer: not null } ? stored with { Shard = path } : throw new DamagedWorkException($"{path}: its record is damaged.");
        }
        catch (JsonException)
        {
            throw new DamagedWorkException($"{path}: its record is damaged.");
        }
    }
}
