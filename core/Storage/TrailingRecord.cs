using System.Buffers.Binary;
using System.Text.Json;

namespace Serverless.Core.Storage;

/// <summary>
/// A record at the end of an object, which the bytes before it are written without knowing: JSON, then its length in 4 bytes,
/// little-endian.
/// </summary>
internal static class TrailingRecord
{
    private const int Largest = 64 << 20;

    /// <summary>Appends the record.</summary>
    public static async Task WriteAsync<T>(Stream stream, T record, CancellationToken cancellation)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(record, Json.Options);
        var length = new byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(length, json.Length);
        await stream.WriteAsync(json, cancellation);
        await stream.WriteAsync(length, cancellation);
    }

    /// <summary>Reads the record.</summary>
    /// <exception cref="DamagedWorkException">There is none.</exception>
    public static async Task<T> ReadAsync<T>(ArtifactReader reader, CancellationToken cancellation)
        where T : class
    {
        var end = reader.Artifact.Length - sizeof(int);
        if (end < 0)
            throw Damaged();
        var length = new byte[sizeof(int)];
        await reader.ReadAsync(end, length, cancellation);
        var count = BinaryPrimitives.ReadInt32LittleEndian(length);
        if (count <= 0 || count > Math.Min(end, Largest))
            throw Damaged();
        var json = new byte[count];
        await reader.ReadAsync(end - count, json, cancellation);
        try
        {
            return JsonSerializer.Deserialize<T>(json, Json.Options) ?? throw Damaged();
        }
        catch (JsonException)
        {
            throw Damaged();
        }

        DamagedWorkException Damaged() => new($"{reader.Artifact.Path}: the record at its end is damaged.");
    }
}
