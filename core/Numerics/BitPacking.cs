using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Serverless.Core.Numerics;

/// <summary>
/// Packing of codes of 1, 2, 4 or 8 bits into bytes, the first code in the lowest bits (ONNX INT4 layout; com.microsoft.MatMulNBits).
/// </summary>
public static class BitPacking
{
    private static readonly ImmutableArray<(int Width, int Shift)>[] AllPlanes = [.. Enumerable.Range(0, 17).Select(PlanesOf)];

    /// <summary>Bytes that hold <paramref name="count"/> codes.</summary>
    public static long Bytes(long count, int bits) => (count * bits + 7) / 8;

    /// <summary>
    /// The bit planes that codes of a width are stored in, lowest first: widths that divide a byte, so that each byte
    /// holds whole codes. 3 bits are 2 + 1, 5 are 4 + 1, 6 are 4 + 2, 7 are 4 + 2 + 1.
    /// </summary>
    public static ImmutableArray<(int Width, int Shift)> Planes(int bits) => AllPlanes[bits];

    private static ImmutableArray<(int Width, int Shift)> PlanesOf(int bits)
    {
        var planes = new List<(int, int)>();
        for (var shift = 0; shift < bits; )
        {
            var width = (bits - shift) switch
            {
                >= 16 => 16,
                >= 8 => 8,
                >= 4 => 4,
                >= 2 => 2,
                _ => 1,
            };
            planes.Add((width, shift));
            shift += width;
        }
        return [.. planes];
    }

    /// <summary>Bytes that hold <paramref name="count"/> codes plane by plane; those of more than 16 bits lie whole.</summary>
    public static long PlaneBytes(long count, int bits) => bits > 16 ? Bytes(count, bits) : Planes(bits).Sum(p => Bytes(count, p.Width));

    /// <summary>Packs one code a byte into <paramref name="packed"/>; codes must be below 2^bits.</summary>
    public static void Pack(ReadOnlySpan<byte> codes, int bits, Span<byte> packed)
    {
        switch (bits)
        {
            case 8:
                codes.CopyTo(packed);
                break;
            case 4:
                var pairs = codes.Length / 2;
                for (var i = Nibbles(codes, packed); i < pairs; i++)
                    packed[i] = (byte)(codes[2 * i] | codes[2 * i + 1] << 4);
                if ((codes.Length & 1) != 0)
                    packed[pairs] = codes[^1];
                break;
            default:
                var per = 8 / bits;
                for (var i = 0; i < Bytes(codes.Length, bits); i++)
                {
                    var b = 0;
                    for (var k = 0; k < per && i * per + k < codes.Length; k++)
                        b |= codes[i * per + k] << (bits * k);
                    packed[i] = (byte)b;
                }
                break;
        }
    }

    /// <summary>
    /// Packs bits <paramref name="shift"/>…<paramref name="shift"/> + <paramref name="bits"/> of each code at place <paramref name="at"/>
    /// of a plane whose bytes there are zero.
    /// </summary>
    public static void PackAt(ReadOnlySpan<byte> codes, int shift, int bits, long at, Span<byte> plane)
    {
        var per = 8 / bits;
        if (
            shift == 0
            && at % per == 0
            && codes.Length % per == 0
            && (bits == 8 || codes.IndexOfAnyInRange((byte)(1 << bits), byte.MaxValue) < 0)
        )
        {
            Pack(codes, bits, plane[(int)(at / per)..]);
            return;
        }
        var mask = (1 << bits) - 1;
        for (var i = 0; i < codes.Length; i++)
            plane[(int)((at + i) / per)] |= (byte)((codes[i] >> shift & mask) << (int)((at + i) % per * bits));
    }

    // Two codes as one 16-bit number x: x | x >> 4 has the packed pair in its low byte.
    private static int Nibbles(ReadOnlySpan<byte> codes, Span<byte> packed)
    {
        var i = 0;
        if (!Vector256.IsHardwareAccelerated)
            return i;
        ref var c = ref MemoryMarshal.GetReference(codes);
        ref var p = ref MemoryMarshal.GetReference(packed);
        for (; i <= codes.Length / 2 - 32; i += 32)
        {
            var a = Vector256.LoadUnsafe(ref c, (nuint)(2 * i)).AsUInt16();
            var b = Vector256.LoadUnsafe(ref c, (nuint)(2 * i) + 32).AsUInt16();
            Vector256
                .Narrow((a | (a >> 4)) & Vector256.Create((ushort)0xff), (b | (b >> 4)) & Vector256.Create((ushort)0xff))
                .StoreUnsafe(ref p, (nuint)i);
        }
        for (; i <= codes.Length / 2 - 16; i += 16)
        {
            var a = Vector256.LoadUnsafe(ref c, (nuint)(2 * i)).AsUInt16();
            var pairs = (a | (a >> 4)) & Vector256.Create((ushort)0xff);
            Vector128.Narrow(pairs.GetLower(), pairs.GetUpper()).StoreUnsafe(ref p, (nuint)i);
        }
        return i;
    }

    /// <summary>The inverse of <see cref="Pack"/>.</summary>
    public static void Unpack(ReadOnlySpan<byte> packed, int bits, Span<byte> codes)
    {
        var (per, mask) = (8 / bits, (1 << bits) - 1);
        for (var i = 0; i < codes.Length; i++)
            codes[i] = (byte)(packed[i / per] >> (bits * (i % per)) & mask);
    }
}
