namespace Serverless.Core.Numerics;

/// <summary>
/// Frequencies of the symbols of a stream, whole numbers that sum to 2^14: what an asymmetric numeral system codes by (Duda 2009, "Asymmetric
/// numeral systems"; Giesen 2014, "Interleaved entropy coders"). Symbols are bytes; those that occur have at least one.
/// </summary>
public sealed class FrequencyTable
{
    /// <summary>log₂ of the sum of all frequencies.</summary>
    public const int LogTotal = 14;

    /// <summary>The sum of all frequencies.</summary>
    public const int Total = 1 << LogTotal;

    private readonly ushort[] frequencies = new ushort[256];
    private readonly ushort[] starts = new ushort[256];

    /// <summary>Fits frequencies to counts: those of least code length, found by moving one at a time where it costs least.</summary>
    /// <param name="counts">How often each of 256 bytes occurs; at least one does.</param>
    /// <exception cref="ArgumentException">No byte occurs.</exception>
    public FrequencyTable(ReadOnlySpan<long> counts)
    {
        long all = 0;
        foreach (var c in counts)
            all += c;
        if (all == 0)
            throw new ArgumentException("No symbol occurs.", nameof(counts));
        var sum = 0;
        for (var s = 0; s < 256; s++)
            if (counts[s] > 0)
                sum += frequencies[s] = (ushort)Math.Clamp((long)((double)counts[s] / all * Total), 1, Total);
        for (; sum < Total; sum++)
            frequencies[Best(counts, (f, c) => c * Math.Log((f + 1.0) / f))]++;
        for (; sum > Total; sum--)
            frequencies[Best(counts, (f, c) => f == 1 ? double.NegativeInfinity : -c * Math.Log(f / (f - 1.0)))]--;
        for (int s = 0, start = 0; s < 256; start += frequencies[s++])
            starts[s] = (ushort)start;
    }

    /// <summary>Bytes that occur, ascending.</summary>
    public byte[] Symbols => [.. Enumerable.Range(0, 256).Where(s => frequencies[s] > 0).Select(s => (byte)s)];

    /// <summary>Frequencies of <see cref="Symbols"/>.</summary>
    public ushort[] Frequencies => Array.FindAll(frequencies, f => f > 0);

    /// <summary>The frequency of a byte.</summary>
    public int Frequency(byte symbol) => frequencies[symbol];

    /// <summary>The sum of the frequencies of smaller bytes.</summary>
    public int Start(byte symbol) => starts[symbol];

    /// <summary>Bits that bytes of these counts take; infinite where one has no frequency.</summary>
    public double Bits(ReadOnlySpan<long> counts)
    {
        double bits = 0;
        for (var s = 0; s < 256; s++)
            if (counts[s] > 0)
                bits += frequencies[s] == 0 ? double.PositiveInfinity : counts[s] * (LogTotal - Math.Log2(frequencies[s]));
        return bits;
    }

    /// <summary>The entropy of bytes of these counts, in bits in all (Shannon 1948).</summary>
    public static double Entropy(ReadOnlySpan<long> counts)
    {
        double all = 0,
            sum = 0;
        foreach (var c in counts)
        {
            all += c;
            sum += c > 0 ? c * Math.Log2(c) : 0;
        }
        return all > 0 ? all * Math.Log2(all) - sum : 0;
    }

    /// <summary>How often each of 256 bytes occurs.</summary>
    public static long[] Count(ReadOnlySpan<byte> bytes)
    {
        var counts = new long[256];
        foreach (var b in bytes)
            counts[b]++;
        return counts;
    }

    private int Best(ReadOnlySpan<long> counts, Func<int, long, double> gain)
    {
        var (best, most) = (0, double.NegativeInfinity);
        for (var s = 0; s < 256; s++)
            if (frequencies[s] > 0 && gain(frequencies[s], counts[s]) is var g && g > most)
                (best, most) = (s, g);
        return best;
    }
}
