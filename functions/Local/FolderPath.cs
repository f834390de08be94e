using Serverless.Core;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>A folder that an option names: whether it can be one, and what it holds.</summary>
internal static class FolderPath
{
    private const int LoopError = 40,
        NoFolderError = 20,
        TooLongError = 36;

    /// <summary>The absolute path that an option names, its links followed.</summary>
    /// <exception cref="BadInputException">It names no folder that could be.</exception>
    public static string Of(string path, string option)
    {
        if (path.Trim().Length == 0 || path.Contains('\0'))
            throw new BadInputException($"{option} \"{path}\": names no folder; give the name of a folder of its own.");
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        if (IsRoot(full))
            throw new BadInputException($"{option} {path}: is the root of the file system; give a folder of its own.");
        var found = FileIdentity.Of(full);
        if (found.Loops || found.Error == LoopError)
            throw new BadInputException($"{option} {path}: its links lead round in a circle; give another folder.");
        if (found.Error == NoFolderError)
            throw new BadInputException($"{option} {path}: a part of the path is a file; give another folder.");
        if (found.Error == TooLongError || full.Split(Path.DirectorySeparatorChar).Any(IsTooLong))
            throw new BadInputException($"{option} {path}: the name is too long for this file system; give a shorter one.");
        if (found.Kind is FileKind.Regular or FileKind.Special)
            throw new BadInputException($"{option} {path}: is a file; give a folder, which is made where it is missing.");
        if (found.Kind == FileKind.Absent && FileIdentity.LinkTarget(full) is not null)
            throw new BadInputException($"{option} {path}: is a link that leads nowhere; give a folder.");
        var real = found.Kind == FileKind.Folder ? FileIdentity.RealPath(full) : full;
        if (IsRoot(real))
            throw new BadInputException($"{option} {path}: is the root of the file system; give a folder of its own.");
        return real;
    }

    /// <summary>Refuses a folder in which, or in the nearest one above that exists, no file can be made.</summary>
    public static void RequireWritable(string folder, string option)
    {
        var at = folder;
        while (!Directory.Exists(at))
        {
            if (File.Exists(at))
                throw new BadInputException($"{option} {folder}: {at} is a file; give a folder elsewhere.");
            at =
                Path.GetDirectoryName(at)
                ?? throw new BadInputException($"{option} {folder}: there is no such drive; give another folder.");
        }
        try
        {
            using var probe = new FileStream(
                Path.Combine(at, $".serverless-{Guid.NewGuid():N}"),
                FileMode.CreateNew,
                FileAccess.Write,
                FileShare.None,
                1,
                FileOptions.DeleteOnClose
            );
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{option} {folder}: nothing can be written in {at} ({Reason(e)}); give a folder elsewhere.", e);
        }
    }

    /// <summary>
    /// Whether a folder is, or is above, a file or folder, which need not exist: by name, links followed, and by identity.
    /// </summary>
    public static bool Holds(string folder, string path)
    {
        var identity = FileIdentity.Of(folder);
        for (var at = path; at is not null; at = Path.GetDirectoryName(at))
            if (string.Equals(at, folder, StringComparison.Ordinal) || FileIdentity.Of(at).IsSame(identity))
                return true;
        return false;
    }

    private static bool IsRoot(string full) => full == Path.GetPathRoot(full);

    private static bool IsTooLong(string name) => System.Text.Encoding.UTF8.GetByteCount(name) > StorePath.LongestName;

    // .NET puts the path behind, which is that of the probe.
    private static string Reason(Exception e) =>
        e switch
        {
            UnauthorizedAccessException => "permission denied",
            FileNotFoundException or DirectoryNotFoundException => "the system makes no files there",
            _ => e.Message.Split(" : ")[0].TrimEnd('.'),
        };
}
