using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Serverless.Core.Runs;

/// <summary>What a model process may take for the request it answers. Over it, the process ends at once.</summary>
internal sealed partial class ChildLimits
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);
    private readonly object gate = new();
    private long memory = long.MaxValue,
        end = long.MaxValue;
    private bool working;

    /// <summary>Starts to watch.</summary>
    public ChildLimits() => Watch("limits", WatchLimits);

    /// <summary>A request begins.</summary>
    /// <param name="most">Resident bytes that it may take.</param>
    public void Begin(long most)
    {
        lock (gate)
        {
            (memory, end, working) = (most, long.MaxValue, true);
            Monitor.Pulse(gate);
        }
    }

    /// <summary>It may take so long from now on.</summary>
    public void EndAfter(TimeSpan time)
    {
        lock (gate)
            end = Stopwatch.GetTimestamp() + (long)(time.TotalSeconds * Stopwatch.Frequency);
    }

    /// <summary>It is answered: nothing is limited until the next.</summary>
    public void Lift()
    {
        lock (gate)
            working = false;
    }

    /// <summary>Runs a watch on a thread of its own.</summary>
    public static void Watch(string name, ThreadStart watch) => new Thread(watch) { IsBackground = true, Name = $"watch {name}" }.Start();

    /// <summary>Ends the process without finalizers and atexit handlers, which wait for native threads.</summary>
    public static void End(int code)
    {
        if (OperatingSystem.IsWindows())
            Environment.Exit(code);
        ExitNow(code);
    }

    private void WatchLimits()
    {
        for (; ; Thread.Sleep(Poll))
            lock (gate)
            {
                while (!working)
                    Monitor.Wait(gate);
                if (Environment.WorkingSet > memory)
                    End(ModelProcessChild.OutOfMemory);
                if (Stopwatch.GetTimestamp() > end)
                    End(ModelProcessChild.OutOfTime);
            }
    }

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void ExitNow(int code);
}
