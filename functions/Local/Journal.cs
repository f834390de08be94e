using System.IO.Hashing;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Serverless.Core;

namespace Serverless.Local;

/// <summary>
/// Results of finished activities, one line each behind its XXH64 checksum, appended as they finish: a run that was killed reads
/// them back and goes on. A line that is damaged, or cut short by the kill, is dropped: its activity is done again.
/// </summary>
internal sealed class Journal : IDisposable
{
    private const int ChecksumLength = 16;
    private readonly Dictionary<string, JsonElement> results = new(StringComparer.Ordinal);
    private readonly Lock gate = new();
    private readonly FileStream file;

    public Journal(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var text = File.Exists(path) ? File.ReadAllBytes(path) : [];
        var whole = new MemoryStream(text.Length);
        foreach (var range in text.AsSpan().Split((byte)'\n'))
        {
            if (range.End.Value == text.Length || Parse(text.AsSpan()[range]) is not { } entry)
                continue;
            results[entry.Key] = entry.Result;
            whole.Write(text.AsSpan()[range]);
            whole.WriteByte((byte)'\n');
        }
        if (whole.Length != text.Length)
        {
            File.WriteAllBytes(path + ".partial", whole.ToArray());
            File.Move(path + ".partial", path, overwrite: true);
        }
        file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read);
    }

    private sealed record Entry(string Key, string Activity, JsonElement Result);

    /// <summary>Number of activities that a run before this one finished, and this one.</summary>
    public int Count => results.Count;

    /// <summary>The key of an activity's call.</summary>
    public static string Key<TInput>(string activity, TInput input) =>
        Convert.ToHexStringLower(
            SHA256
                .HashData([.. JsonSerializer.SerializeToUtf8Bytes(activity), .. JsonSerializer.SerializeToUtf8Bytes(input, Json.Options)])
                .AsSpan(0, 16)
        );

    public bool TryGet<T>(string key, out T? result)
    {
        lock (gate)
        {
            result = results.TryGetValue(key, out var json) ? json.Deserialize<T>(Json.Options) : default;
            return result is not null;
        }
    }

    public void Add<T>(string key, string activity, T result)
    {
        var entry = new Entry(key, activity, JsonSerializer.SerializeToElement(result, Json.Options));
        var line = JsonSerializer.SerializeToUtf8Bytes(entry, Json.Options);
        lock (gate)
        {
            results[key] = entry.Result;
            file.Write([.. Encoding.ASCII.GetBytes(Checksum(line)), (byte)' ', .. line, (byte)'\n']);
            file.Flush();
        }
    }

    public void Dispose() => file.Dispose();

    private static string Checksum(ReadOnlySpan<byte> line) =>
        XxHash64.HashToUInt64(line).ToString("x16", System.Globalization.CultureInfo.InvariantCulture);

    private static Entry? Parse(ReadOnlySpan<byte> line)
    {
        if (line.Length <= ChecksumLength + 1 || line[ChecksumLength] != ' ')
            return null;
        var json = line[(ChecksumLength + 1)..];
        return Encoding.ASCII.GetString(line[..ChecksumLength]) == Checksum(json)
            ? JsonSerializer.Deserialize<Entry>(json, Json.Options)
            : null;
    }
}
