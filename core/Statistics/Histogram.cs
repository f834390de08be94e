using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Serverless.Core.Statistics;

/// <summary>
/// Counts of values in bins of a power-of-two width, aligned at zero, 2,048 on either side. When a value lies outside,
/// the width doubles and neighbouring bins join: whole counts, so that merging histograms is exact in any order.
/// </summary>
public sealed class Histogram
{
    /// <summary>Bins on either side of zero.</summary>
    public const int Half = 2048;
    private const int Smallest = -60,
        Many = 1 << 14,
        Stride = (2 * Half) + 1;

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
        var counted = values.Length >= Many && Vector256.IsHardwareAccelerated ? Count(values, inverse) : 0;
        foreach (var v in values[counted..])
            if (float.IsFinite(v))
                Counts[(int)MathF.Floor(v * inverse) + Half]++;
    }

    // Neighbours often fall into one bin, and an increment waits for the one before it: even and odd places are counted apart. Values that
    // are not finite fall behind the last bin.
    private int Count(ReadOnlySpan<float> values, float inverse)
    {
        var counts = ArrayPool<int>.Shared.Rent(2 * Stride);
        try
        {
            Array.Clear(counts, 0, 2 * Stride);
            ref var even = ref MemoryMarshal.GetArrayDataReference(counts);
            ref var odd = ref Unsafe.Add(ref even, Stride);
            ref var first = ref MemoryMarshal.GetReference(values);
            var (middle, outside) = (Vector256.Create(Half), Vector256.Create(2 * Half));
            var i = 0;
            for (; i <= values.Length - 8; i += 8)
            {
                var v = Vector256.LoadUnsafe(ref first, (nuint)i);
                var bin = Vector256.ConvertToInt32Native(Vector256.Floor(v * inverse)) + middle;
                bin = Vector256.ConditionalSelect(
                    Vector256.IsFinite(v).AsInt32(),
                    Vector256.Clamp(bin, Vector256<int>.Zero, outside),
                    outside
                );
                var (low, high) = (bin.GetLower().AsUInt64(), bin.GetUpper().AsUInt64());
                Pair(low[0], ref even, ref odd);
                Pair(low[1], ref even, ref odd);
                Pair(high[0], ref even, ref odd);
                Pair(high[1], ref even, ref odd);
            }
            for (var bin = 0; bin < 2 * Half; bin++)
                Counts[bin] += counts[bin] + counts[Stride + bin];
            return i;
        }
        finally
        {
            ArrayPool<int>.Shared.Return(counts);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Pair(ulong bins, ref int even, ref int odd)
        {
            Unsafe.Add(ref even, (nint)(uint)bins)++;
            Unsafe.Add(ref odd, (nint)(bins >> 32))++;
        }
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
