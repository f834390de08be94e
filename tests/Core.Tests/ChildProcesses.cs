using System.Diagnostics;

namespace Serverless.TestSupport;

/// <summary>Processes that a process has started, by Linux's <c>/proc</c>.</summary>
internal static class ChildProcesses
{
    /// <summary>Ids of those that run now.</summary>
    public static IReadOnlyList<int> Of(int parent)
    {
        var found = new List<int>();
        foreach (var folder in Directory.GetDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out var id))
                continue;
            try
            {
                // pid (name) state ppid …; the name may hold spaces and brackets.
                var stat = File.ReadAllText(Path.Combine(folder, "stat"));
                var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
                if (fields[0] != "Z" && int.Parse(fields[1]) == parent)
                    found.Add(id);
            }
            catch (IOException)
            {
                // It ended just now.
            }
        }
        return found;
    }

    /// <summary>Waits for a child; null when the parent ends first.</summary>
    public static async Task<int?> WaitForOneAsync(Process parent)
    {
        while (!parent.HasExited)
        {
            if (Of(parent.Id) is [var id, ..])
                return id;
            await Task.Delay(5);
        }
        return null;
    }

    /// <summary>Whether a process is there, running or not yet gone.</summary>
    public static bool IsAlive(int id) => Directory.Exists($"/proc/{id}") && !File.ReadAllText($"/proc/{id}/stat").Contains(") Z ");

    /// <summary>
    /// Whether this process ignores a signal, and so those it starts: SIGHUP under nohup, SIGINT and SIGQUIT in a shell's background.
    /// </summary>
    public static bool Ignores(string signal) =>
        Array.IndexOf(["HUP", "INT", "QUIT"], signal) is var bit and >= 0
        && File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith("SigIgn:", StringComparison.Ordinal)) is { } line
        && (Convert.ToUInt64(line[7..].Trim(), 16) >> bit & 1) != 0;

    /// <summary>Sends a signal.</summary>
    public static void Signal(int id, string name)
    {
        using var kill = Process.Start("kill", [$"-{name}", id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }
}
