using System.Globalization;

namespace Serverless.Core.Reports;

/// <summary>Round values for an axis: 1, 2 or 5 times a power of ten apart (Heckbert, "Nice Numbers for Graph Labels", 1990).</summary>
internal static class AxisTicks
{
    private const int About = 5;
    private const double Shortest = 1e-4,
        Longest = 1e7;

    /// <summary>From the last at or below the least value to the first at or above the largest.</summary>
    /// <param name="least">A finite number.</param>
    /// <param name="largest">A finite number; where it is not above the least, the axis is 1 long.</param>
    public static IReadOnlyList<double> From(double least, double largest)
    {
        if (!(largest > least))
            largest = least + 1;
        var step = Round((largest - least) / About);
        var (first, last) = ((long)Math.Floor(least / step), (long)Math.Ceiling(largest / step * (1 - 1e-12)));
        return [.. Enumerable.Range(0, (int)(last - first) + 1).Select(i => (first + i) * step)];
    }

    /// <summary>A value in as many digits as tell it from its neighbours.</summary>
    public static string Text(double value, IReadOnlyList<double> ticks)
    {
        var step = ticks[1] - ticks[0];
        if (step < Shortest || step >= Longest)
            return value == 0 ? "0" : value.ToString("0.##e0", CultureInfo.InvariantCulture);
        return value.ToString($"F{Math.Max(0, -(int)Math.Floor(Math.Log10(step) + 1e-9))}", CultureInfo.InvariantCulture);
    }

    private static double Round(double step)
    {
        var power = Math.Pow(10, Math.Floor(Math.Log10(step)));
        return power
            * (
                (step / power) switch
                {
                    <= 1 => 1,
                    <= 2 => 2,
                    <= 5 => 5,
                    _ => 10,
                }
            );
    }
}
