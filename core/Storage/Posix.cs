using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Serverless.Core.Storage;

/// <summary>
/// Calls of the C library that .NET has no API for. statx(2), open(2) with O_PATH and renameat2(2) are Linux's; the
/// numbers are those of its generic ABI, which x64 and arm64 share.
/// </summary>
internal static unsafe partial class Posix
{
    internal const int EPERM = 1,
        ENOENT = 2,
        EACCES = 13,
        EBUSY = 16,
        EXDEV = 18,
        ENOTDIR = 20,
        ENOSPC = 28,
        ENAMETOOLONG = 36,
        ELOOP = 40;
    private const int AtCwd = -100,
        AtNoFollow = 0x100,
        AtEmptyPath = 0x1000,
        BasicStats = 0x7ff,
        Exchange = 2;
    private const int OPath = 0x200000,
        OCloseOnExec = 0x80000,
        ONoFollow = 0x20000;
    private const int StatSize = 256,
        UserAt = 20,
        GroupAt = 24,
        ModeAt = 28,
        InodeAt = 32,
        ChangedAt = 96,
        MajorAt = 136,
        MinorAt = 140;
    private const int TypeMask = 0xf000,
        Regular = 0x8000,
        Folder = 0x4000,
        Link = 0xa000;

    /// <summary>What a path stands for, by its device and inode.</summary>
    /// <returns>The kind and identity; on failure <see cref="FileKind.Absent"/> and the error number.</returns>
    public static FileIdentity Stat(string path, bool follow) => Stat(AtCwd, path, follow ? 0 : AtNoFollow);

    /// <summary>What an open file is.</summary>
    public static FileIdentity Stat(SafeFileHandle file) => Stat((int)file.DangerousGetHandle(), "", AtEmptyPath);

    /// <summary>Nanoseconds from 1970 to the last change of a file's bytes or attributes; 0 where that is not known.</summary>
    public static long ChangeTime(string path)
    {
        if (!OperatingSystem.IsLinux())
            return 0;
        var stat = stackalloc byte[StatSize];
        return Statx(AtCwd, path, 0, BasicStats, stat) != 0
            ? 0
            : unchecked((*(long*)(stat + ChangedAt) * 1_000_000_000) + *(uint*)(stat + ChangedAt + 8));
    }

    /// <summary>Gives a folder the owner, group and permissions of another, as far as that is allowed.</summary>
    public static void CopyAccess(string from, string to)
    {
        if (OperatingSystem.IsWindows())
            return;
        var stat = stackalloc byte[StatSize];
        if (OperatingSystem.IsLinux() && Statx(AtCwd, from, 0, BasicStats, stat) == 0)
        {
            // The group alone may be ours to give.
            var (user, group) = (*(uint*)(stat + UserAt), *(uint*)(stat + GroupAt));
            if (ChangeOwner(to, user, group) != 0)
                _ = ChangeOwner(to, uint.MaxValue, group);
        }
        // Changing the owner clears the set-group-ID bit.
        File.SetUnixFileMode(to, File.GetUnixFileMode(from));
    }

    /// <summary>A handle on a file that opens nothing: a pipe or device behind it does not notice.</summary>
    /// <returns>The handle, invalid on failure, and the error number.</returns>
    public static (SafeFileHandle Handle, int Error) OpenPath(string path, bool follow)
    {
        var descriptor = Open(path, OPath | OCloseOnExec | (follow ? 0 : ONoFollow));
        return (new SafeFileHandle(descriptor, ownsHandle: true), descriptor < 0 ? Marshal.GetLastPInvokeError() : 0);
    }

    /// <summary>Lets two folders or files change places at once.</summary>
    /// <returns>0, or the error number.</returns>
    public static int Swap(string one, string other) => Rename(AtCwd, one, AtCwd, other, Exchange) == 0 ? 0 : Marshal.GetLastPInvokeError();

    /// <summary>Gives a file a second name; false where that cannot be.</summary>
    public static bool TryLink(string path, string name) => !OperatingSystem.IsWindows() && HardLink(path, name) == 0;

    /// <summary>Makes the names in a folder durable.</summary>
    public static void SyncFolder(string path)
    {
        if (OperatingSystem.IsWindows())
            return;
        using var folder = new SafeFileHandle(Open(path, OCloseOnExec), ownsHandle: true);
        // Some file systems have no such call for folders, and need none.
        if (!folder.IsInvalid)
            _ = Sync((int)folder.DangerousGetHandle());
    }

    /// <summary>The system's words for an error number.</summary>
    public static string Words(int error) => new Win32Exception(error).Message;

    private static FileIdentity Stat(int at, string path, int flags)
    {
        var stat = stackalloc byte[StatSize];
        if (Statx(at, path, flags, BasicStats, stat) != 0)
            return new FileIdentity(FileKind.Absent, 0, 0, "", Marshal.GetLastPInvokeError());
        var kind = (*(ushort*)(stat + ModeAt) & TypeMask) switch
        {
            Regular => FileKind.Regular,
            Folder => FileKind.Folder,
            Link => FileKind.Link,
            _ => FileKind.Special,
        };
        return new FileIdentity(kind, ((ulong)*(uint*)(stat + MajorAt) << 32) | *(uint*)(stat + MinorAt), *(ulong*)(stat + InodeAt), "", 0);
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folder, string path, int flags, uint mask, byte* stat);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "renameat2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Rename(int fromFolder, string from, int toFolder, string to, uint flags);

    [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int HardLink(string path, string name);

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint user, uint group);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Sync(int file);
}
