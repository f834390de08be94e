namespace Serverless.Core.Storage;

/// <summary>Checks and joins of store paths and of file names that come from a model.</summary>
public static class StorePath
{
    /// <summary>Folder of compressed layers, shared by runs: the name of an object there is a hash of what it is made from.</summary>
    public const string Shards = "work/layers";

    /// <summary>Joins segments with a forward slash.</summary>
    public static string Combine(params ReadOnlySpan<string> segments)
    {
        var parts = new List<string>(segments.Length);
        foreach (var s in segments)
        {
            var trimmed = s.Trim('/');
            if (trimmed.Length > 0)
                parts.Add(trimmed);
        }
        return string.Join('/', parts);
    }

    /// <summary>The last segment of a path.</summary>
    public static string Name(string path) => path[(path.LastIndexOf('/') + 1)..];

    /// <summary>Everything before the last segment, without the slash.</summary>
    public static string Parent(string path) => path.LastIndexOf('/') is var i and >= 0 ? path[..i] : "";

    /// <summary>Bytes of UTF-8 that file systems take for one name (NAME_MAX of Linux, 255).</summary>
    public const int LongestName = 255;

    /// <summary>The beginning of a name that fits a number of bytes of UTF-8; no character is cut in two.</summary>
    /// <param name="name">The name.</param>
    /// <param name="bytes">Bytes, at least 0.</param>
    public static string Cut(string name, int bytes)
    {
        var (length, used) = (0, 0);
        foreach (var rune in name.EnumerateRunes())
        {
            if ((used += rune.Utf8SequenceLength) > bytes)
                return name[..length];
            length += rune.Utf16SequenceLength;
        }
        return name;
    }

    /// <summary>
    /// A relative path without its <c>.</c>, <c>..</c> and empty segments: <c>./a//b</c> and <c>a/c/../b</c> are <c>a/b</c>. An absolute one stays as it is.
    /// </summary>
    public static string Normal(string relative) => relative.StartsWith('/') ? relative : string.Join('/', Segments(relative));

    // A ".." that leads out of the folder stays, and is unsafe.
    private static List<string> Segments(string relative)
    {
        var segments = new List<string>();
        foreach (var segment in relative.Split('/').Where(s => s is not ("" or ".")))
        {
            if (segment == ".." && segments is [.., not ".."])
                segments.RemoveAt(segments.Count - 1);
            else
                segments.Add(segment);
        }
        return segments;
    }

    /// <summary>
    /// Why a relative path taken from a model may not be followed, or null when it stays inside its folder:
    /// empty, absolute, a colon (a drive), a backslash, a control character, or a <c>.</c>/<c>..</c> segment.
    /// </summary>
    public static string? WhyUnsafe(string relative)
    {
        if (relative.Length == 0)
            return "is empty";
        if (relative.Length > 1024)
            return "is longer than 1024 characters";
        if (relative[0] == '/')
            return "is absolute";
        if (relative.Contains('\\') || relative.Contains(':'))
            return "has a backslash or a colon";
        if (relative.Any(char.IsControl))
            return "has a control character";
        foreach (var range in relative.AsSpan().Split('/'))
            if (relative.AsSpan(range) is "" or "." or "..")
                return "has an empty, '.' or '..' segment";
        return null;
    }
}
