using System.Globalization;

namespace Serverless.Core.Reports;

/// <summary>Counts of bytes as people read them, in powers of 1000.</summary>
public static class ByteCount
{
    private const long LargestMantissa = 10_000;
    private static readonly string[] Names = ["B", "kB", "MB", "GB"];

    /// <summary>One count, in the unit that suits it.</summary>
    public static string Text(long bytes)
    {
        var unit = Unit(bytes);
        return $"{(bytes / Size(unit)).ToString("0.#", CultureInfo.InvariantCulture)} {Names[unit]}";
    }

    /// <summary>Two counts in one unit, that of the larger; a smaller one where the other would be shown as 0.</summary>
    public static string Change(long before, long after)
    {
        var unit = Unit(Math.Max(before, after));
        var smaller = Math.Min(before, after);
        while (unit > 0 && smaller > 0 && smaller < 0.1 * Size(unit))
            unit--;
        return $"{Number(before, unit)} → {Number(after, unit)}";
    }

    /// <summary>The name and the bytes of the unit that suits a count.</summary>
    public static (string Name, double Bytes) UnitOf(long bytes) => (Names[Unit(bytes)], Size(Unit(bytes)));

    private static int Unit(long bytes)
    {
        var unit = 0;
        while (unit < Names.Length - 1 && Math.Abs(bytes) >= LargestMantissa * Size(unit))
            unit++;
        return unit;
    }

    private static double Size(int unit) => Math.Pow(1000, unit);

    private static string Number(long bytes, int unit) =>
        $"{(bytes / Size(unit)).ToString(unit == 0 ? "0" : "0.0", CultureInfo.InvariantCulture)} {Names[unit]}";
}
