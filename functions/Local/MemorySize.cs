using System.Globalization;
using Serverless.Core;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>Amounts of memory as users write them.</summary>
internal static class MemorySize
{
    /// <summary>The option's description.</summary>
    public const string About =
        "Memory that this process and those it starts may take together, as 512MB or 2GB (default: half of what is free, at least 1GB).";

    private const long LeastByDefault = 1L << 30,
        LeastRoom = 64 << 20,
        OwnSize = 150 << 20;

    /// <summary>Parses <c>512MB</c>, <c>1.5GB</c> or a number of bytes.</summary>
    public static long Parse(string text)
    {
        var t = text.Trim().ToUpperInvariant();
        var (factor, digits) = t switch
        {
            _ when t.EndsWith("GB", StringComparison.Ordinal) => (1L << 30, t[..^2]),
            _ when t.EndsWith("MB", StringComparison.Ordinal) => (1L << 20, t[..^2]),
            _ when t.EndsWith("KB", StringComparison.Ordinal) => (1L << 10, t[..^2]),
            _ => (1L, t),
        };
        return
            double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var n)
            && n * factor is >= (384 << 20) and < long.MaxValue / 2
            ? (long)(n * factor)
            : throw new BadInputException($"--memory {text}: not an amount of at least 384MB; write 512MB or 2GB.");
    }

    /// <summary>What this process and those it starts may take beside what this one holds already.</summary>
    /// <param name="budget">All of it in bytes, or null for half of what is free, at least 1 GB.</param>
    public static MemoryGate Room(long? budget) =>
        new(Math.Max(LeastRoom, (budget ?? Math.Max(LeastByDefault, HalfOfFree())) - Math.Max(OwnSize, Environment.WorkingSet)));

    /// <summary>Half of the memory that is free now, of what a container may have at most.</summary>
    private static long HalfOfFree()
    {
        const string Line = "MemAvailable:";
        var available = File.Exists("/proc/meminfo")
            ? File.ReadLines("/proc/meminfo").FirstOrDefault(l => l.StartsWith(Line, StringComparison.Ordinal))
            : null;
        var free =
            available is not null
            && long.TryParse(
                available[Line.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(),
                CultureInfo.InvariantCulture,
                out var kb
            )
                ? kb << 10
                : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        return Math.Min(free, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes) / 2;
    }
}
