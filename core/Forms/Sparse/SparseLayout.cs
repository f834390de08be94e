using Serverless.Core.Numerics;

namespace Serverless.Core.Forms;

/// <summary>How the places of stored symbols lie in the file: a bitmap, or gaps between them, of single symbols or of units.</summary>
/// <param name="Unit">Symbols of a unit.</param>
/// <param name="GapBits">Bits of a gap; 0 for a bitmap.</param>
/// <param name="Entries">Units that are stored.</param>
/// <param name="Gaps">Gaps; 0 for a bitmap.</param>
/// <param name="Bytes">Bytes of places, values and nodes.</param>
internal sealed record SparseLayout(int Unit, int GapBits, long Entries, long Gaps, long Bytes)
{
    // Bytes of the nodes and initializers, found by writing them; the table of bits is shared by all layers.
    internal const int BitmapNodes = 420,
        GapNodes = 640,
        SignNodes = 70;

    private static readonly int[] Units = [1, 4, 8, 16, 32];

    /// <summary>Bits that a gap may have.</summary>
    public static readonly IReadOnlyList<int> Widths = [2, 3, 4, 5, 6, 8];

    /// <summary>The layout of fewest bytes.</summary>
    /// <param name="present">A bit for each symbol that is not zero, the first in the lowest bit.</param>
    /// <param name="count">Symbols.</param>
    /// <param name="bits">Bits a symbol.</param>
    /// <param name="alone">Bits of a symbol that is a unit of its own.</param>
    /// <param name="entropy">Bits of the values where these and a bitmap may be coded at their entropy; else null.</param>
    public static SparseLayout Best(byte[] present, long count, int bits, int alone, double? entropy)
    {
        SparseLayout? best = null;
        foreach (var unit in Units.Where(u => count % u == 0))
        foreach (var layout in Of(unit == 1 ? present : Joined(present, count, unit), count, unit, unit == 1 ? alone : bits))
        {
            var own = unit == 1 && alone < bits ? layout with { Bytes = layout.Bytes + SignNodes } : layout;
            if (best is null || own.Bytes < best.Bytes)
                best = own;
        }
        if (entropy is not { } values || Of(present, count, 1, alone).First() is not { GapBits: 0 } bitmap)
            return best!;
        return EntropyCoding.Alone(FrequencyTable.Count(present)) + values / 8 + BitmapNodes < best!.Bytes ? bitmap : best;
    }

    /// <summary>A bit for each unit that has a symbol that is not zero.</summary>
    public static byte[] Joined(byte[] present, long count, int unit)
    {
        var joined = new byte[BitPacking.Bytes(count / unit, 1)];
        for (long u = 0; u < count / unit; u++)
            if (Any(present, u * unit, unit))
                joined[u >> 3] |= (byte)(1 << (int)(u & 7));
        return joined;
    }

    private static IEnumerable<SparseLayout> Of(byte[] present, long count, int unit, int bits)
    {
        var (entries, skips) = Count(present, count / unit);
        var values = BitPacking.PlaneBytes((entries + 1) * unit, bits);
        yield return new SparseLayout(unit, 0, entries, 0, BitPacking.Bytes(count / unit, 1) + values + BitmapNodes);
        for (var i = 0; i < Widths.Count && entries > 0; i++)
        {
            var gaps = entries + skips[i];
            yield return new SparseLayout(unit, Widths[i], entries, gaps, BitPacking.PlaneBytes(gaps, Widths[i]) + values + GapNodes);
        }
    }

    private static (long Entries, long[] Skips) Count(byte[] present, long units)
    {
        var (skips, entries, last) = (new long[Widths.Count], 0L, -1L);
        foreach (var at in Places(present))
        {
            entries++;
            var gap = at - last - 1;
            for (var i = 0; gap >= (1 << Widths[i]) - 1; )
            {
                skips[i] += gap / ((1 << Widths[i]) - 1);
                if (++i == Widths.Count)
                    break;
            }
            last = at;
        }
        return (entries, skips);
    }

    /// <summary>Places of the bits that are set.</summary>
    public static IEnumerable<long> Places(byte[] bits)
    {
        for (var b = 0; b < bits.Length; b++)
        for (int rest = bits[b]; rest != 0; rest &= rest - 1)
            yield return 8L * b + System.Numerics.BitOperations.TrailingZeroCount(rest);
    }

    private static bool Any(byte[] present, long first, int unit)
    {
        if (unit == 4)
            return (present[first >> 3] >> (int)(first & 4) & 15) != 0;
        for (var b = 0; b < unit / 8; b++)
            if (present[(first >> 3) + b] != 0)
                return true;
        return false;
    }
}
