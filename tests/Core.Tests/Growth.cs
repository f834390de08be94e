using System.Diagnostics;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Processor time of work at one size and at four times that: of this process, with no other test beside it.</summary>
internal static class Growth
{
    /// <summary>
    /// Bound of the time at four times the size, in times of that at the size: linear work takes 4, up to 6 beside others that use the
    /// cache; quadratic work takes 16.
    /// </summary>
    public const double Most = 8;
    private const long Quiet = 400L << 20;
    private const int Rounds = 8;

    // Milliseconds below which caches and clocks decide.
    private const double Least = 40;

    // Quadratic work takes 16 times as long in every round; a busy machine does not disturb every one.
    public static void Linear(int size, Func<int, Action> prepare, double most = Most, long quiet = Quiet)
    {
        prepare(size)();
        var (one, four) = (double.MaxValue, double.MaxValue);
        for (var round = 0; round < Rounds; round++)
        {
            one = Math.Min(one, Time(prepare(size), quiet));
            four = Math.Min(four, Time(prepare(4 * size), quiet));
            if (four <= most * Math.Max(Least, one))
                return;
        }
        Assert.Fail($"{one:0.0} ms at {size}, {four:0} ms at {4 * size}");
    }

    private static double Time(Action work, long room)
    {
        // Collections cost as the heap's age has it, not as the work does.
        GC.Collect();
        var quiet = GC.TryStartNoGCRegion(room);
        using var self = Process.GetCurrentProcess();
        var before = self.TotalProcessorTime;
        work();
        self.Refresh();
        var time = (self.TotalProcessorTime - before).TotalMilliseconds;
        if (quiet && System.Runtime.GCSettings.LatencyMode == System.Runtime.GCLatencyMode.NoGCRegion)
            GC.EndNoGCRegion();
        return time;
    }
}
