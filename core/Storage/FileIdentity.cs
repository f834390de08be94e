namespace Serverless.Core.Storage;

/// <summary>What a path stands for.</summary>
public enum FileKind
{
    /// <summary>Nothing, or nothing that may be looked at.</summary>
    Absent,

    /// <summary>A file with bytes of its own.</summary>
    Regular,

    /// <summary>A folder.</summary>
    Folder,

    /// <summary>A symbolic link, where links were not followed.</summary>
    Link,

    /// <summary>A pipe, a socket or a device: opening one may block, or do things.</summary>
    Special,
}

/// <summary>
/// Which file or folder a path stands for, whatever name it goes by: device and inode on Linux (statx(2)), elsewhere
/// the path with its links resolved. Nothing is opened to find out.
/// </summary>
/// <param name="Kind">What it is.</param>
/// <param name="Device">Device, or 0.</param>
/// <param name="Inode">Inode, or 0.</param>
/// <param name="Resolved">The resolved path where there are no inodes to be had, else empty.</param>
/// <param name="Error">The system's error number where it is absent, or 0.</param>
public readonly record struct FileIdentity(FileKind Kind, ulong Device, ulong Inode, string Resolved, int Error)
{
    private static readonly bool HasStat = OperatingSystem.IsLinux() && CanStat();

    /// <summary>Whether the path leads through more links than the system follows.</summary>
    public bool Loops => Kind == FileKind.Absent && Error == Posix.ELOOP;

    /// <summary>Looks at a path.</summary>
    /// <param name="path">The path.</param>
    /// <param name="follow">Whether the last part may be a link to what is meant.</param>
    public static FileIdentity Of(string path, bool follow = true)
    {
        if (HasStat)
            return Posix.Stat(path, follow);
        if (!follow && LinkTarget(path) is not null)
            return new FileIdentity(FileKind.Link, 0, 0, Path.GetFullPath(path), 0);
        var kind = Directory.Exists(path) ? FileKind.Folder : FileKind.Absent;
        if (kind == FileKind.Absent && File.Exists(path))
            kind = (File.GetAttributes(path) & FileAttributes.Device) != 0 ? FileKind.Special : FileKind.Regular;
        return new FileIdentity(kind, 0, 0, kind == FileKind.Absent ? "" : RealPath(path), 0);
    }

    /// <summary>Whether both are there and the same.</summary>
    public bool IsSame(FileIdentity other) =>
        Kind != FileKind.Absent
        && Kind == other.Kind
        && (Device, Inode) == (other.Device, other.Inode)
        && Resolved.Equals(other.Resolved, OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase);

    /// <summary>The absolute path without links; parts that do not exist are kept as they are.</summary>
    public static string RealPath(string path)
    {
        var at = Path.GetFullPath(path);
        for (var hops = 0; hops < InsideLinks.MostHops; hops++)
        {
            if (Unlinked(at) is not { } next)
                return Path.TrimEndingDirectorySeparator(at);
            at = next;
        }
        return at;
    }

    /// <summary>Where a link leads, as it says itself; null for what is no link. Its target is not looked at.</summary>
    public static string? LinkTarget(string path) => new FileInfo(path).LinkTarget;

    // The path with its first link replaced by the link's target, or null when none is in it.
    private static string? Unlinked(string path)
    {
        var root = Path.GetPathRoot(path)!;
        var at = root;
        var parts = path[root.Length..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries);
        for (var i = 0; i < parts.Length; i++)
        {
            var next = Path.Combine(at, parts[i]);
            if (LinkTarget(next) is { } target)
                return Path.GetFullPath(Path.Combine([at, target, .. parts[(i + 1)..]]));
            at = next;
        }
        return null;
    }

    private static bool CanStat()
    {
        try
        {
            return Posix.Stat("/", follow: true).Kind == FileKind.Folder;
        }
        catch (EntryPointNotFoundException)
        {
            return false;
        }
    }
}
