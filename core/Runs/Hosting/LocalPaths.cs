using System.Text.Json;
using Serverless.Core.Reports;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// Takes this machine's folders out of sentences that leave it. A path in a container becomes the store's name for it;
/// one below the temporary, home, current or program folder becomes its file name. Only paths below folders that are
/// known are changed: a node may be named <c>/encoder/MatMul</c>.
/// </summary>
public static class LocalPaths
{
    private const string Ends = "\"'<>|*?,;:)]}";

    /// <summary>The text without absolute paths of this machine.</summary>
    /// <param name="text">A sentence.</param>
    /// <param name="store">The store whose folders are known, if it has any.</param>
    public static string Hide(string text, IArtifactStore store)
    {
        // The longest first: the folder of a container may lie in the current one.
        foreach (var (folder, container) in Known(store).OrderByDescending(k => k.Folder.Length))
            text = Replace(text, folder, container);
        return text;
    }

    /// <summary>A report whose sentences hold no absolute paths of this machine.</summary>
    public static Report Hide(Report report, IArtifactStore store) =>
        report with
        {
            Notes = report.Notes.ToDictionary(n => n.Key, n => Hidden(n.Value, store)),
            Layers = [.. report.Layers.Select(l => l with { Note = Hidden(l.Note, store), Fallback = Hidden(l.Fallback, store) })],
        };

    private static string? Hidden(string? text, IArtifactStore store) => text is null ? null : Hide(text, store);

    private static JsonElement Hidden(JsonElement figures, IArtifactStore store) =>
        figures.ValueKind switch
        {
            JsonValueKind.String => JsonSerializer.SerializeToElement(Hide(figures.GetString()!, store)),
            JsonValueKind.Array => JsonSerializer.SerializeToElement(figures.EnumerateArray().Select(f => Hidden(f, store))),
            JsonValueKind.Object => JsonSerializer.SerializeToElement(
                figures.EnumerateObject().ToDictionary(p => p.Name, p => Hidden(p.Value, store))
            ),
            _ => figures,
        };

    private static IEnumerable<(string Folder, string? Container)> Known(IArtifactStore store)
    {
        if ((store is ChecksummedStore { Inner: var inner } ? inner : store) is FolderStore folders)
            foreach (var (container, root) in folders.Roots)
            foreach (var folder in Spellings(root))
                yield return (folder, container);
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string[] others = [Path.GetTempPath(), home, Directory.GetCurrentDirectory(), AppContext.BaseDirectory];
        foreach (var folder in others.SelectMany(Spellings))
            yield return (folder, null);
    }

    // As it was given and as the system resolves it; the root of the file system would be everywhere.
    private static IEnumerable<string> Spellings(string folder) =>
        folder.Length == 0
            ? []
            : new[] { Path.GetFullPath(folder), FileIdentity.RealPath(folder) }
                .Select(Path.TrimEndingDirectorySeparator)
                .Where(f => f.Length > Path.GetPathRoot(f)!.Length)
                .Distinct(StringComparer.Ordinal);

    private static string Replace(string text, string folder, string? container)
    {
        for (var at = 0; (at = text.IndexOf(folder, at, StringComparison.Ordinal)) >= 0; )
        {
            var end = at + folder.Length;
            var begins = at == 0 || !IsPart(text[at - 1]);
            var ends = end == text.Length || text[end] == Path.DirectorySeparatorChar || !IsPart(text[end]);
            if (!begins || !ends)
            {
                at = end;
                continue;
            }
            var shown = container ?? "";
            if (container is null)
            {
                var stop = end;
                while (stop < text.Length && !char.IsWhiteSpace(text[stop]) && !Ends.Contains(text[stop]))
                    stop++;
                var name = text[at..stop].TrimEnd(Path.DirectorySeparatorChar, '.');
                (shown, end) = (name[(name.LastIndexOf(Path.DirectorySeparatorChar) + 1)..], at + name.Length);
            }
            text = string.Concat(text.AsSpan(0, at), shown, text.AsSpan(end));
            at += shown.Length;
        }
        return text;
    }

    private static bool IsPart(char c) => char.IsLetterOrDigit(c) || c is '_' or '-' or '.' or '/' or '\\';
}
