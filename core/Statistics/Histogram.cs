namespace Serverless.Core.Statistics;

/// <summary>
/// Counts of values in bins of a power-of-two width, aligned at zero, 2,048 on either side. When a value lies outside,
/// the width doubles and neighbouring bins join: whole counts, so that merging histograms is exact in any order.
/// </summary>
public sealed class Histogram
{
    /// <summary>Bins on either side of zero.</summary>
    public const int Half = 2048;
    private const int Smallest = -60;

    /// <summary>An empty histogram.</summary>
    public Histogram()
        : this(Smallest, new long[2 * Half]) { }

    /// <summary>A histogram of given counts.</summary>
    public Histogram(int exponent, long[] counts) => (Exponent, Counts) = (exponent, counts);

    /// <summary>A bin is 2^Exponent wide.</summary>
    public int Exponent { get; private set; }

    /// <summary>Bin i counts values of [(i − 2048) · width, (i − 2047) · width).</summary>
    public long[] Counts { get; }

    /// <summary>Width of a bin.</summary>
    public double Width => Math.ScaleB(1, Exponent);

    /// <summary>Adds values; what is not finite is left out.</summary>
    /// <param name="values">The values.</param>
    /// <param name="largest">The largest magnitude among those that are finite.</param>
    public void Add(ReadOnlySpan<float> values, float largest)
    {
        while (largest >= Half * Width)
            Widen();
        var inverse = (float)(1 / Width);
        foreach (var v in values)
            if (float.IsFinite(v))
                Counts[(int)MathF.Floor(v * inverse) + Half]++;
    }

    /// <summary>Adds another histogram.</summary>
    public void Add(Histogram other)
    {
        while (Exponent < other.Exponent)
            Widen();
        var shift = Exponent - other.Exponent;
        for (var i = 0; i < other.Counts.Length; i++)
            if (other.Counts[i] > 0)
                Counts[shift >= 31 ? (i >= Half ? Half : Half - 1) : ((i - Half) >> shift) + Half] += other.Counts[i];
    }

    private void Widen()
    {
        Exponent++;
        for (var i = 0; i < Half / 2; i++)
        {
            var (right, left) = (Half + 2 * i, Half - 1 - 2 * i);
            Counts[Half + i] = Counts[right] + Counts[right + 1];
            Counts[Half - 1 - i] = Counts[left] + Counts[left - 1];
        }
        Counts.AsSpan(Half + Half / 2).Clear();
        Counts.AsSpan(0, Half / 2).Clear();
    }
}
