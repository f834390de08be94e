using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Serverless.Core.Numerics;

/// <summary>
/// Squared errors of four affine roundings of one block, read once: to the bit those of
/// <see cref="Rounding.SquaredError"/>, which adds eight partial sums over the block.
/// </summary>
internal static class FourRoundings
{
    /// <summary>Blocks that it takes: whole vectors, in one partial sum each.</summary>
    public static bool Takes(int length) => Vector256.IsHardwareAccelerated && length is > 0 and <= 2048 && length % 8 == 0;

    /// <summary>The errors.</summary>
    /// <param name="weights">The block, of a length that <see cref="Takes"/> allows.</param>
    /// <param name="scales">The four scales.</param>
    /// <param name="inverses">One over each, in float; normal numbers.</param>
    /// <param name="lows">Smallest codes less the zero points.</param>
    /// <param name="highs">Largest codes less the zero points.</param>
    public static Vector128<float> SquaredErrors(
        ReadOnlySpan<float> weights,
        ReadOnlySpan<float> scales,
        ReadOnlySpan<float> inverses,
        ReadOnlySpan<float> lows,
        ReadOnlySpan<float> highs
    )
    {
        ref var w = ref MemoryMarshal.GetReference(weights);
        var (s0, s1, s2, s3) = Four(scales);
        var (i0, i1, i2, i3) = Four(inverses);
        var (l0, l1, l2, l3) = Four(lows);
        var (h0, h1, h2, h3) = Four(highs);
        var (e0, e1, e2, e3) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
        for (nuint i = 0; i < (nuint)weights.Length; i += 8)
        {
            var v = Vector256.LoadUnsafe(ref w, i);
            e0 += Square(v - Vector256.MinNative(Vector256.MaxNative(Vector256.Round(v * i0), l0), h0) * s0);
            e1 += Square(v - Vector256.MinNative(Vector256.MaxNative(Vector256.Round(v * i1), l1), h1) * s1);
            e2 += Square(v - Vector256.MinNative(Vector256.MaxNative(Vector256.Round(v * i2), l2), h2) * s2);
            e3 += Square(v - Vector256.MinNative(Vector256.MaxNative(Vector256.Round(v * i3), l3), h3) * s3);
        }
        if (!Avx.IsSupported)
            return Vector128.Create(Vector256.Sum(e0), Vector256.Sum(e1), Vector256.Sum(e2), Vector256.Sum(e3));
        // ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), as Vector256.Sum adds, of all four.
        var pairs = Avx.HorizontalAdd(Avx.HorizontalAdd(e0, e1), Avx.HorizontalAdd(e2, e3));
        return pairs.GetLower() + pairs.GetUpper();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Square(Vector256<float> d) => d * d;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<float>, Vector256<float>, Vector256<float>, Vector256<float>) Four(ReadOnlySpan<float> of) =>
        (Vector256.Create(of[0]), Vector256.Create(of[1]), Vector256.Create(of[2]), Vector256.Create(of[3]));
}
