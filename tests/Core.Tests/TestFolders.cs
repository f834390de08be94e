using System.Runtime.CompilerServices;

namespace Serverless.TestSupport;

/// <summary>
/// Temporary folders in memory, where the system has room for them: stores flush what they write, and a disk makes each of 100,000 small
/// files wait. A <c>TMPDIR</c> that is set stays.
/// </summary>
internal static class TestFolders
{
    private const string Memory = "/dev/shm",
        Prefix = "serverless-tests-";
    private const long Least = 4L << 30;

    /// <summary>For what is to be looked at when the tests have ended.</summary>
    public static string Kept { get; private set; } = "";

    [ModuleInitializer]
    internal static void UseMemory()
    {
        Kept = Path.GetTempPath();
        if (Environment.GetEnvironmentVariable("TMPDIR") is not null || !Directory.Exists(Memory))
            return;
        foreach (var old in Directory.GetDirectories(Memory, Prefix + "*"))
            if (!Directory.Exists($"/proc/{Path.GetFileName(old)[Prefix.Length..]}"))
                DeleteLeftover(old);
        if (new DriveInfo(Memory).AvailableFreeSpace < Least)
            return;
        var own = Directory.CreateDirectory(Path.Combine(Memory, Prefix + Environment.ProcessId)).FullName;
        Environment.SetEnvironmentVariable("TMPDIR", own);
        AtExit(own);
    }

    /// <summary>
    /// Deletes what a killed run left. Test processes start together: another may be deleting it too, and a process that the killed run
    /// started (a host, Azurite) may still write there. Whatever stays is for the next run.
    /// </summary>
    private static void DeleteLeftover(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (IOException) { }
    }

    /// <summary>Deletes a folder when the process ends.</summary>
    public static void AtExit(string folder) =>
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
        };
}
