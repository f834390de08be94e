namespace Serverless.Core.Storage;

/// <summary>
/// Follows the links of a path by what they say, without leaving a folder: what lies outside is neither looked at nor
/// opened, so that a link tells nothing of its target, not even whether there is one.
/// </summary>
internal static class InsideLinks
{
    /// <summary>Links followed one after another, as on Linux (path_resolution(7)).</summary>
    public const int MostHops = 40;

    /// <summary>The path of a file with its links followed.</summary>
    /// <param name="root">The folder, absolute.</param>
    /// <param name="relative">The file in it, with forward slashes.</param>
    /// <param name="name">How to name it in an error.</param>
    /// <returns>The path below <paramref name="root"/>, or null when a link leads out of it.</returns>
    /// <exception cref="BadInputException">Links lead round in a circle.</exception>
    public static string? Resolve(string root, string relative, string name)
    {
        var (at, hops, real) = (root, 0, (string?)null);
        var ahead = new Stack<string>();
        Push(relative);
        while (ahead.TryPop(out var part))
        {
            if (part is "" or ".")
                continue;
            if (part == "..")
            {
                if (at.Length <= root.Length)
                    return null;
                at = Path.GetDirectoryName(at)!;
                continue;
            }
            var next = Path.Combine(at, part);
            if (FileIdentity.LinkTarget(next) is not { } target)
            {
                at = next;
                continue;
            }
            if (++hops > MostHops)
                throw new BadInputException($"{name}: its links lead round in a circle; copy the file in their place.");
            if (Path.IsPathRooted(target))
            {
                if ((Below(root, target) ?? Below(real ??= FileIdentity.RealPath(root), target)) is not { } inside)
                    return null;
                (at, target) = (root, inside);
            }
            Push(target);
        }
        return at;

        void Push(string path)
        {
            var parts = path.Split('/', Path.DirectorySeparatorChar);
            for (var i = parts.Length - 1; i >= 0; i--)
                ahead.Push(parts[i]);
        }
    }

    /// <summary>The rest of a path below a folder, or null when it is not below it.</summary>
    public static string? Below(string root, string path)
    {
        var start = Path.EndsInDirectorySeparator(root) ? root : root + Path.DirectorySeparatorChar;
        return path.StartsWith(start, StringComparison.Ordinal) ? path[start.Length..] : null;
    }
}
