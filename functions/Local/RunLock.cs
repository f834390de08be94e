using Serverless.Core;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>One run of a drop at a time on this machine, by a lock file that goes with the process that holds it.</summary>
internal sealed class RunLock : IDisposable
{
    /// <summary>Name of the work folder that is removed once it is empty.</summary>
    public const string WorkFolder = ".serverless-work";

    // EWOULDBLOCK of flock(2), on Linux and on BSD; ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION.
    private static readonly int[] Contention = [11, 35, unchecked((int)0x80070020), unchecked((int)0x80070021)];

    private const int MostLost = 20;

    private readonly FileStream file;

    private RunLock(FileStream file, bool waited) => (this.file, Waited) = (file, waited);

    /// <summary>Whether another run held the lock first.</summary>
    public bool Waited { get; }

    /// <summary>Takes the lock, waiting for whoever holds it.</summary>
    /// <exception cref="BadInputException">The lock file cannot be made.</exception>
    public static async Task<RunLock> TakeAsync(string path, Action<string> say, CancellationToken cancellation)
    {
        var (waited, lost) = (false, 0);
        for (; ; waited = true)
        {
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                var held = new RunLock(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None), waited);
                // The holder before may have removed the file between our opening and locking it, and another run made a new one.
                if (held.IsAt(path))
                    return held;
                held.file.Dispose();
            }
            catch (DirectoryNotFoundException) when (lost++ < MostLost)
            {
                // The run before removed the work folder just now.
                await Task.Delay(1, cancellation);
            }
            catch (IOException e) when (Contention.Contains(e.HResult))
            {
                if (!waited)
                    say("Another run of this drop is under way; waiting for it.");
                await Task.Delay(200, cancellation);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new BadInputException(
                    $"{path}: the lock of the run cannot be made "
                        + $"({e.Message.Split(" : ")[0].TrimEnd('.')}); check the folder, or give another one with --work.",
                    e
                );
            }
        }
    }

    private bool IsAt(string path) =>
        OperatingSystem.IsLinux()
            ? FileIdentity.Of(path).IsSame(FileIdentity.Of($"/proc/self/fd/{file.SafeFileHandle.DangerousGetHandle()}"))
            : File.Exists(path);

    public void Dispose()
    {
        File.Delete(file.Name);
        file.Dispose();
        var folder = Path.GetDirectoryName(file.Name)!;
        if (Path.GetFileName(folder) != WorkFolder || !Directory.Exists(folder) || Directory.EnumerateFileSystemEntries(folder).Any())
            return;
        try
        {
            Directory.Delete(folder);
        }
        catch (IOException)
        {
            // Another run put its lock there, and will remove the folder in turn.
        }
    }
}
