using System.Security.Cryptography;
using System.Text;
using Serverless.Core.Execution;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// The table of operators of this machine, where later runs find it: on a machine of its own in the user's folder for local data
/// (<c>~/.local/share/serverless</c>), else, and where there is no such folder, in the store's <c>work</c>.
/// </summary>
internal sealed class MachineTimes
{
    /// <summary>The environment variable that names another folder.</summary>
    public const string FolderVariable = "SERVERLESS_MACHINE_FOLDER";

    private const string Own = "machine";
    private readonly IArtifactStore store;
    private readonly string path;

    private MachineTimes(IArtifactStore store, string path) => (this.store, this.path) = (store, path);

    /// <summary>The table.</summary>
    public OperatorTimes Times { get; private set; } = Empty();

    /// <summary>Opens the table.</summary>
    /// <param name="run">The store of a run.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<MachineTimes> OpenAsync(IArtifactStore run, CancellationToken cancellation)
    {
        var name = $"operator-times-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(OperatorTimer.Machine)))[..16]}.json";
        // What is damaged is measured again, so no sums are kept.
        var bare = run is ChecksummedStore { Inner: var inner } ? inner : run;
        var opened =
            bare is FolderStore && OwnFolder() is { } folder
                ? new MachineTimes(new FolderStore(new Dictionary<string, string> { [Own] = folder }), $"{Own}/{name}")
                : new MachineTimes(bare, $"work/{name}");
        await opened.ReadAsync(opened.Times, cancellation);
        return opened;
    }

    /// <summary>Writes the table, with what other runs have added to it by now.</summary>
    public async Task KeepAsync(CancellationToken cancellation)
    {
        if (Times.Measured == 0)
            return;
        await ReadAsync(Times, cancellation);
        await store.WriteBytesAsync(path, Times.Write(), cancellation);
    }

    private static OperatorTimes Empty() => new(OperatorTimer.Machine, OperatorTimer.Measure);

    private async Task ReadAsync(OperatorTimes into, CancellationToken cancellation)
    {
        try
        {
            if (await store.FindAsync(path, cancellation) is not null)
                into.Read(await store.ReadBytesAsync(path, OperatorTimes.LargestTable, cancellation));
        }
        catch (BadInputException)
        {
            // Too large, or no file: it is measured anew and written over.
        }
    }

    // Null where the user has no folder that can be written to.
    private static string? OwnFolder()
    {
        var local = Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify);
        var folder = Environment.GetEnvironmentVariable(FolderVariable) ?? (local.Length > 0 ? Path.Combine(local, "serverless") : null);
        if (folder is null)
            return null;
        try
        {
            Directory.CreateDirectory(folder);
            using (File.Create(Path.Combine(folder, Path.GetRandomFileName()), 1, FileOptions.DeleteOnClose)) { }
            return folder;
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            return null;
        }
    }
}
