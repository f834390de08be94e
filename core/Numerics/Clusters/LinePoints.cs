namespace Serverless.Core.Numerics;

/// <summary>Numbers with a mass each, in rising order, summed so that the mean and squared error of any range take one step.</summary>
public sealed class LinePoints
{
    private readonly double[] at;
    private readonly double[] mass;
    private readonly double[] first;
    private readonly double[] second;

    /// <summary>Takes numbers in rising order.</summary>
    /// <param name="points">Number, mass, and mass times squared number, which says how far numbers that are held as one lie apart.</param>
    public LinePoints(IReadOnlyCollection<(double At, double Mass, double Square)> points)
    {
        at = new double[points.Count];
        (mass, first, second) = (new double[at.Length + 1], new double[at.Length + 1], new double[at.Length + 1]);
        var i = 0;
        foreach (var (x, m, square) in points)
        {
            at[i] = x;
            mass[i + 1] = mass[i] + m;
            first[i + 1] = first[i] + m * x;
            second[i + 1] = second[i] + square;
            i++;
        }
    }

    /// <summary>How many there are.</summary>
    public int Count => at.Length;

    /// <summary>A number.</summary>
    public double this[int i] => at[i];

    /// <summary>Mass of the numbers from one to before another.</summary>
    public double Mass(int from, int to) => mass[to] - mass[from];

    /// <summary>Their mean; the middle of the range where they have no mass.</summary>
    public double Mean(int from, int to) => Mass(from, to) is > 0 and var m ? (first[to] - first[from]) / m : (at[from] + at[to - 1]) / 2;

    /// <summary>Squared distance of the numbers from one to before another to a number, by mass.</summary>
    public double Error(int from, int to, double center) =>
        Math.Max(0, second[to] - second[from] - 2 * center * (first[to] - first[from]) + center * center * Mass(from, to));

    /// <summary>The first that is above a number.</summary>
    public int Above(double number)
    {
        var (low, high) = (0, at.Length);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (at[middle] > number)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }

    /// <summary>The one in which the mass from the lowest on reaches a share of all.</summary>
    /// <param name="share">0 to 1.</param>
    public int At(double share)
    {
        var found = Array.BinarySearch(mass, share * mass[^1]);
        return Math.Clamp(found < 0 ? ~found - 1 : found, 0, at.Length - 1);
    }
}
