using Serverless.Core;
using System.Security.Cryptography;
using System.Text.Json;

namespace Serverless.Local;

/// <summary>
/// Results of finished activities, one line each, appended as they finish: a run that was killed reads them back and
/// goes on. A last line cut short by the kill is dropped.
/// </summary>
internal sealed class Journal : IDisposable
{
    private readonly Dictionary<string, JsonElement> results = new(StringComparer.Ordinal);
    private readonly Lock gate = new();
    private readonly FileStream file;

    public Journal(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        long whole = 0;
        using (var reader = new StreamReader(file, leaveOpen: true))
        {
            var text = reader.ReadToEnd();
            foreach (var line in text.Split('\n')[..^1])
            {
                var entry = Parse(line);
                if (entry is null) break;
                results[entry.Key] = entry.Result;
                whole += System.Text.Encoding.UTF8.GetByteCount(line) + 1;
            }
        }
        file.SetLength(whole);
        file.Position = whole;
    }

    private sealed record Entry(string Key, string Activity, JsonElement Result);

    /// <summary>Number of activities that a run before this one finished, and this one.</summary>
    public int Count => results.Count;

    /// <summary>The key of an activity's call.</summary>
    public static string Key<TInput>(string activity, TInput input) =>
        Convert.ToHexStringLower(SHA256.HashData([.. JsonSerializer.SerializeToUtf8Bytes(activity), .. JsonSerializer.SerializeToUtf8Bytes(input, Json.Options)]).AsSpan(0, 16));

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
            file.Write([.. line, (byte)'\n']);
            file.Flush();
        }
    }

    public void Dispose() => file.Dispose();

    private static Entry? Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<Entry>(line, Json.Options);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
