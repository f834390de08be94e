using System.Security.Cryptography;
using System.Text;

namespace Serverless.Core.Storage;

/// <summary>
/// Lets a finished folder take the place of another at once: its files get a second name (or are copied, across file
/// systems) in a folder beside the target, are made durable, and the two folders are exchanged (renameat2(2),
/// RENAME_EXCHANGE). The finished folder stays until then: killed at any moment, doing it again leaves the same.
/// A replaced folder that holds something no run published is kept under another name.
/// </summary>
internal static class FolderPublication
{
    private const string Partial = ".partial",
        Filling = ".filling",
        Whole = ".whole",
        Old = ".old";

    /// <summary>Publishes a folder, which is gone afterwards.</summary>
    /// <param name="from">The finished folder.</param>
    /// <param name="to">Where it appears, absolute; the folder above is made where it is missing.</param>
    /// <param name="cancellation">Cancels the copy; the exchange itself is not cut short.</param>
    public static void Publish(string from, string to, CancellationToken cancellation)
    {
        var parent = Path.GetDirectoryName(to)!;
        Directory.CreateDirectory(parent);
        if (!StaysInPlace(to))
            ClearLeftovers(to);
        if (StaysInPlace(to) || !TryReplace(from, to, cancellation))
            InPlacePublication.Publish(from, to, cancellation);
        Retire(from);
    }

    /// <summary>Gives the files of a folder second names in another, which is made; copies them where that cannot be.</summary>
    public static void Fill(string from, string folder, CancellationToken cancellation)
    {
        Directory.CreateDirectory(folder);
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            cancellation.ThrowIfCancellationRequested();
            if (file.EndsWith(Partial, StringComparison.Ordinal))
                continue;
            var name = Path.Combine(folder, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(name)!);
            if (!Posix.TryLink(file, name))
                Copy(file, name);
            using var written = File.OpenHandle(name, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
            RandomAccess.FlushToDisk(written);
        }
        Posix.SyncFolder(folder);
    }

    private static void Copy(string file, string name)
    {
        try
        {
            File.Copy(file, name);
        }
        catch (IOException e)
        {
            throw new IOException(
                $"{Path.GetFileName(file)} could not be copied to "
                    + $"{Path.GetDirectoryName(Path.GetDirectoryName(name))}: {e.Message.Split(" : ")[0].TrimEnd('.')}",
                e
            );
        }
    }

    // The shell that started us would stand in a folder that is gone.
    private static bool StaysInPlace(string to) => FileIdentity.Of(to).IsSame(FileIdentity.Of(Directory.GetCurrentDirectory()));

    private static bool TryReplace(string from, string to, CancellationToken cancellation)
    {
        var mark = $"{Mark(to)}-{Environment.ProcessId:x}{Guid.NewGuid():N}";
        var (filling, whole) = (mark + Filling, mark + Whole);
        try
        {
            Fill(from, filling, cancellation);
            Directory.Move(filling, whole);
        }
        catch (UnauthorizedAccessException) when (Directory.Exists(to))
        {
            return false;
        }
        catch
        {
            Delete(filling);
            throw;
        }
        try
        {
            if (Directory.Exists(to))
                Posix.CopyAccess(to, whole);
            if (!Directory.Exists(to))
                Directory.Move(whole, to);
            else if (!TryExchange(whole, to))
                return false;
            Posix.SyncFolder(Path.GetDirectoryName(to)!);
        }
        finally
        {
            Discard(whole, to);
        }
        return true;
    }

    private static bool TryExchange(string whole, string to)
    {
        if (OperatingSystem.IsLinux())
        {
            var error = Posix.Swap(whole, to);
            if (error == 0)
                return true;
            // A mount, or a folder that may be written to but not moved.
            if (error is Posix.EBUSY or Posix.EXDEV or Posix.EACCES or Posix.EPERM)
                return false;
        }
        // Where the file system cannot exchange: two steps, and back when the second fails.
        var old = Path.ChangeExtension(whole, null) + Old;
        Directory.Move(to, old);
        try
        {
            Directory.Move(whole, to);
        }
        catch
        {
            Directory.Move(old, to);
            throw;
        }
        Discard(old, to);
        return true;
    }

    // What a killed publication left: half a copy, or a whole folder, which may be the one that was replaced.
    private static void ClearLeftovers(string to)
    {
        foreach (var left in Directory.EnumerateDirectories(Path.GetDirectoryName(to)!, Path.GetFileName(Mark(to)) + "-*").ToList())
        {
            if (left.EndsWith(Filling, StringComparison.Ordinal))
                Delete(left);
            else if (left.EndsWith(Old, StringComparison.Ordinal) && !Directory.Exists(to))
                Directory.Move(left, to);
            else
                Discard(left, to);
        }
    }

    private static void Discard(string folder, string to)
    {
        if (!Directory.Exists(folder))
            return;
        if (PublishedFolder.WhyForeign(folder) is null)
            Delete(folder);
        else
            Directory.Move(folder, PublishedFolder.AsideName(to));
    }

    // Renamed first: half of it must never look finished.
    private static void Retire(string from)
    {
        var gone = from + ".published";
        Delete(gone);
        Directory.Move(from, gone);
        Delete(gone);
    }

    private static void Delete(string folder)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    // Names beside the target that are known to belong to it.
    private static string Mark(string to) =>
        Path.Combine(
            Path.GetDirectoryName(to)!,
            $".serverless-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Path.GetFileName(to))).AsSpan(0, 8))}"
        );
}
