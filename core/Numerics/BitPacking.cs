namespace Serverless.Core.Numerics;

/// <summary>Packing of codes of 1, 2, 4 or 8 bits into bytes, the first code in the lowest bits (ONNX INT4 layout; com.microsoft.MatMulNBits).</summary>
public static class BitPacking
{
    /// <summary>Bytes that hold <paramref name="count"/> codes.</summary>
    public static long Bytes(long count, int bits) => (count * bits + 7) / 8;

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
                for (var i = 0; i < pairs; i++) packed[i] = (byte)(codes[2 * i] | codes[2 * i + 1] << 4);
                if ((codes.Length & 1) != 0) packed[pairs] = codes[^1];
                break;
            default:
                var per = 8 / bits;
                for (var i = 0; i < Bytes(codes.Length, bits); i++)
                {
                    var b = 0;
                    for (var k = 0; k < per && i * per + k < codes.Length; k++) b |= codes[i * per + k] << (bits * k);
                    packed[i] = (byte)b;
                }
                break;
        }
    }

    /// <summary>The inverse of <see cref="Pack"/>.</summary>
    public static void Unpack(ReadOnlySpan<byte> packed, int bits, Span<byte> codes)
    {
        var (per, mask) = (8 / bits, (1 << bits) - 1);
        for (var i = 0; i < codes.Length; i++) codes[i] = (byte)(packed[i / per] >> (bits * (i % per)) & mask);
    }
}
