using System.Security.Cryptography;
using System.Text.Json;

namespace Serverless.Core.Storage;

/// <summary>
/// Tells a folder that a run published from one that holds something else: it has our names only, and <c>report.json</c>
/// says how long each file is (<c>files</c>; before that there was <c>size.after</c>) and what the text files held.
/// </summary>
public static class PublishedFolder
{
    /// <summary>The report's name; its presence says that the rest is whole.</summary>
    public const string Report = "report.json";

    // Left by a publication that was killed half-way: what lies beside it is ours.
    internal const string Unfinished = ".serverless-publishing";

    private const long LargestReport = 64 << 20;
    private static readonly string[] Models = ["model.onnx", "model.onnx.data"];
    private static readonly HashSet<string> Names = [.. Models, "recipe.yaml", "report.html", Report];

    /// <summary>Whether a name is one of those that a run publishes.</summary>
    public static bool IsOurs(string name) => Names.Contains(name);

    /// <summary>
    /// Why a folder is not, or not only, what a run published: names what it holds. Null for an empty folder and for ours.
    /// </summary>
    /// <param name="folder">An existing folder.</param>
    public static string? WhyForeign(string folder)
    {
        var entries = new DirectoryInfo(folder).GetFileSystemInfos();
        var unfinished = entries.Any(e => e.Name == Unfinished);
        foreach (var entry in entries)
            if (
                entry.Name != Unfinished
                && (!Names.Contains(entry.Name) || FileIdentity.Of(entry.FullName, follow: false).Kind != FileKind.Regular)
            )
                return $"'{entry.Name}', which no run published there";
        return entries.Length == 0 || unfinished ? null : WhyChanged(folder, entries);
    }

    /// <summary>The name that a folder is set aside under.</summary>
    /// <param name="folder">The folder.</param>
    /// <returns>The first of <c>FOLDER.old-1</c>, <c>FOLDER.old-2</c>, … that is free.</returns>
    public static string AsideName(string folder)
    {
        for (var i = 1; ; i++)
        {
            var mark = $".old-{i}";
            var name = Path.Combine(
                Path.GetDirectoryName(folder)!,
                StorePath.Cut(Path.GetFileName(folder), StorePath.LongestName - mark.Length) + mark
            );
            if (FileIdentity.Of(name, follow: false) is { Kind: FileKind.Absent, Error: 0 or Posix.ENOENT })
                return name;
        }
    }

    private static string? WhyChanged(string folder, FileSystemInfo[] entries)
    {
        var file = new FileInfo(Path.Combine(folder, Report));
        if (!file.Exists || file.Length > LargestReport)
            return $"'{entries[0].Name}' without the report of a run";
        try
        {
            using var report = JsonDocument.Parse(File.ReadAllBytes(file.FullName));
            var root = report.RootElement;
            if (root.GetProperty("runId").GetString() is not { Length: > 0 })
                return $"a '{Report}' that is no run's";
            if (root.TryGetProperty("files", out var files) && files.ValueKind == JsonValueKind.Array)
                return WhyChanged(folder, entries, files.EnumerateArray().ToDictionary(f => f.GetProperty("name").GetString()!));
            var bytes = entries.OfType<FileInfo>().Where(e => Models.Contains(e.Name)).Sum(e => e.Length);
            return bytes == root.GetProperty("size").GetProperty("after").GetInt64()
                ? null
                : $"a model that is not the one of its '{Report}'";
        }
        catch (Exception e)
            when (e is JsonException or KeyNotFoundException or InvalidOperationException or ArgumentException or FormatException)
        {
            return $"a '{Report}' that is no run's";
        }
    }

    private static string? WhyChanged(string folder, FileSystemInfo[] entries, Dictionary<string, JsonElement> files)
    {
        foreach (var entry in entries.OfType<FileInfo>().Where(e => e.Name != Report && Names.Contains(e.Name)))
        {
            if (!files.TryGetValue(entry.Name, out var known) || known.GetProperty("bytes").GetInt64() != entry.Length)
                return $"'{entry.Name}', which changed after it was published";
            if (
                known.TryGetProperty("sha256", out var sum)
                && sum.GetString() is { } hash
                && hash != Hash(Path.Combine(folder, entry.Name))
            )
                return $"'{entry.Name}', which changed after it was published";
        }
        return null;
    }

    private static string Hash(string file)
    {
        using var stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
