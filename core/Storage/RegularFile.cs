using Microsoft.Win32.SafeHandles;

namespace Serverless.Core.Storage;

/// <summary>
/// Opens files with bytes of their own, and nothing else. On Linux the file is found first (O_PATH, which opens
/// nothing), looked at, and then opened by its handle: whoever changes the path meanwhile gains nothing.
/// </summary>
internal static class RegularFile
{
    /// <summary>Opens a file for ranged reads.</summary>
    /// <param name="path">The file, its links followed.</param>
    /// <param name="name">How to name it in an error.</param>
    /// <param name="root">Folder that it must be in, without links, or null for anywhere.</param>
    /// <exception cref="BadInputException">It is absent, no regular file, or may not be read.</exception>
    public static SafeFileHandle Open(string path, string name, string? root)
    {
        try
        {
            if (!OperatingSystem.IsLinux())
            {
                Require(FileIdentity.Of(path), name);
                return Read(path);
            }
            var (found, error) = Posix.OpenPath(path, follow: root is null);
            using (found)
            {
                if (found.IsInvalid)
                    throw Unopened(name, error);
                Require(Posix.Stat(found), name);
                var self = $"/proc/self/fd/{found.DangerousGetHandle()}";
                // Without /proc, as in some sandboxes, the path has to do.
                if (FileIdentity.LinkTarget(self) is not { } at)
                    return Read(path);
                if (root is not null && InsideLinks.Below(root, at) is null)
                    throw LeadsOut(name);
                return Read(self);
            }
        }
        catch (UnauthorizedAccessException e)
        {
            throw new BadInputException($"{name}: it may not be read; check the permissions of the file and its folder.", e);
        }
    }

    /// <summary>Refuses what is no regular file.</summary>
    public static void Require(FileIdentity file, string name)
    {
        if (file.Kind is FileKind.Regular)
            return;
        if (file.Kind is FileKind.Absent)
            throw Unopened(name, file.Error);
        throw new BadInputException(
            $"{name}: is {(file.Kind == FileKind.Folder ? "a folder" : "a pipe, a socket or a device")}; " + $"only regular files are read."
        );
    }

    /// <summary>The one answer for a link that leads out, whatever is there.</summary>
    public static BadInputException LeadsOut(string name) => new($"{name}: a link leads out of the drop; copy the data into it.");

    private static BadInputException Unopened(string name, int error) =>
        error switch
        {
            Posix.ELOOP => new BadInputException($"{name}: its links lead round in a circle; copy the file in their place."),
            Posix.EACCES => new BadInputException($"{name}: it may not be read; check the permissions of the file and its folder."),
            Posix.ENAMETOOLONG => new BadInputException($"{name}: the name is too long for this file system; rename it."),
            _ => new BadInputException($"{name}: the file does not exist; put it beside the model."),
        };

    private static SafeFileHandle Read(string path) =>
        File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, FileOptions.Asynchronous);
}
