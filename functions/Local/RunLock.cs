namespace Serverless.Local;

/// <summary>One run of a drop at a time on this machine, by a lock file that goes with the process that holds it.</summary>
internal sealed class RunLock : IDisposable
{
    /// <summary>Name of the work folder that is removed once it is empty.</summary>
    public const string WorkFolder = ".serverless-work";

    private readonly FileStream file;

    private RunLock(FileStream file, bool waited) => (this.file, Waited) = (file, waited);

    /// <summary>Whether another run held the lock first.</summary>
    public bool Waited { get; }

    /// <summary>Takes the lock, waiting for whoever holds it.</summary>
    public static async Task<RunLock> TakeAsync(string path, Action<string> say, CancellationToken cancellation)
    {
        for (var waited = false; ; waited = true)
        {
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                var held = new RunLock(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None), waited);
                // The holder before may have removed the file between our opening and locking it.
                if (File.Exists(path)) return held;
            }
            catch (IOException) when (!cancellation.IsCancellationRequested)
            {
                if (!waited) say("Another run of this drop is under way; waiting for it.");
                await Task.Delay(200, cancellation);
            }
        }
    }

    public void Dispose()
    {
        File.Delete(file.Name);
        file.Dispose();
        var folder = Path.GetDirectoryName(file.Name)!;
        if (Path.GetFileName(folder) == WorkFolder && Directory.Exists(folder) && !Directory.EnumerateFileSystemEntries(folder).Any())
            Directory.Delete(folder);
    }
}
