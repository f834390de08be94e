using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>
/// The search of <see cref="BlockScale.Find"/> over a block's clipped ranges, with the same result to the bit. All scales are made at
/// once, and a range is passed over when the errors of the smallest and the largest weight alone are no less than the least error so
/// far: what a range clips grows as it narrows, so most are.
/// </summary>
internal static class ClippedRanges
{
    // The full range and those clipped, filled up to whole vectors with the narrowest.
    private const int Padded = (BlockScale.Candidates + 1 + 7) / 8 * 8;
    private const float SmallestHalf = 6.103515625e-5f,
        LargestHalf = 65504;

    private static readonly float[] Ratios =
    [
        .. Enumerable.Range(0, Padded).Select(i => BlockScale.Ratio(Math.Min(i, BlockScale.Candidates))),
    ];

    [InlineArray(Padded)]
    private struct Numbers
    {
        private float first;
    }

    /// <summary>Searches; false where a scale or the block's length needs the plain search.</summary>
    /// <param name="weights">The block.</param>
    /// <param name="min">Its smallest weight.</param>
    /// <param name="max">Its largest.</param>
    /// <param name="bits">Bits a code, 2 to 8.</param>
    /// <param name="symmetric">No zero point.</param>
    /// <param name="half">Round scales to FLOAT16.</param>
    /// <param name="best">The scale of the least error, the widest of several.</param>
    /// <param name="least">Its squared error.</param>
    [SkipLocalsInit]
    public static bool TryFind(
        ReadOnlySpan<float> weights,
        float min,
        float max,
        int bits,
        bool symmetric,
        bool half,
        out BlockScale best,
        out double least
    )
    {
        (best, least) = (default, 0);
        if (!FourRoundings.Takes(weights.Length) || bits > 8)
            return false;
        Unsafe.SkipInit(out Numbers scaleSpace);
        Unsafe.SkipInit(out Numbers inverseSpace);
        Unsafe.SkipInit(out Numbers zeroSpace);
        Unsafe.SkipInit(out Numbers lowSpace);
        Unsafe.SkipInit(out Numbers highSpace);
        Unsafe.SkipInit(out Numbers boundSpace);
        Span<float> scales = scaleSpace,
            inverses = inverseSpace,
            zeros = zeroSpace,
            lows = lowSpace,
            highs = highSpace,
            bounds = boundSpace;
        var (low, high) = BlockScale.Range(bits, symmetric);
        var extreme = -min > max ? min : max;
        var (numerator, divisor) = bits >= 8 ? (MathF.Abs(extreme), (1 << (bits - 1)) - 1) : (-extreme, 1 << (bits - 1));
        for (var i = 0; i < Padded; i += 8)
        {
            var ratio = Vector256.LoadUnsafe(ref MemoryMarshal.GetArrayDataReference(Ratios), (nuint)i);
            Vector256<float> scale;
            if (symmetric)
                scale = Vector256.Create(numerator) * ratio / Vector256.Create((float)divisor);
            else
            {
                var (lo, hi) = (Vector256.Create(MathF.Min(min, 0)) * ratio, Vector256.Create(MathF.Max(max, 0)) * ratio);
                scale = hi / Vector256.Create((float)high) - lo / Vector256.Create((float)high);
            }
            if (half)
            {
                var magnitude = Vector256.Abs(scale);
                if (
                    Vector256.LessThanAny(magnitude, Vector256.Create(SmallestHalf))
                    || Vector256.GreaterThanAny(magnitude, Vector256.Create(LargestHalf))
                )
                    return false;
                scale = ToHalfPrecision(scale);
            }
            var inverse = Vector256<float>.One / scale;
            if (!Vector256.EqualsAll(Vector256.IsNormal(inverse).AsUInt32(), Vector256<uint>.AllBitsSet))
                return false;
            var zero = symmetric ? Vector256<float>.Zero : Zeros(Vector256.Create(MathF.Min(min, 0)) * ratio, scale, high);
            var (l, h) = (Vector256.Create((float)low) - zero, Vector256.Create((float)high) - zero);
            var bound = SquaredError(min, scale, inverse, l, h) + SquaredError(max, scale, inverse, l, h);
            scale.CopyTo(scales[i..]);
            inverse.CopyTo(inverses[i..]);
            zero.CopyTo(zeros[i..]);
            l.CopyTo(lows[i..]);
            h.CopyTo(highs[i..]);
            bound.CopyTo(bounds[i..]);
        }
        var (chosen, error) = (0, float.PositiveInfinity);
        for (var i = 0; i < Padded; i += 4)
        {
            if (Vector128.GreaterThanOrEqualAll(Vector128.LoadUnsafe(ref bounds[i]), Vector128.Create(error)))
                continue;
            var errors = FourRoundings.SquaredErrors(weights, scales[i..], inverses[i..], lows[i..], highs[i..]);
            for (var k = 0; k < 4; k++)
                if (errors[k] < error)
                    (chosen, error) = (i + k, errors[k]);
        }
        (best, least) = (new BlockScale(scales[chosen], (int)zeros[chosen]), error);
        return true;
    }

    // Ties to even: the thirteen bits that FLOAT16 lacks are rounded off, for magnitudes within its normal range.
    private static Vector256<float> ToHalfPrecision(Vector256<float> value)
    {
        var bits = value.AsUInt32();
        var odd = (bits >> 13) & Vector256<uint>.One;
        return ((bits + Vector256.Create(0xfffu) + odd) & Vector256.Create(~0x1fffu)).AsSingle();
    }

    private static Vector256<float> Zeros(Vector256<float> low, Vector256<float> scale, int steps)
    {
        var ((l0, l1), (s0, s1)) = (Vector256.Widen(low), Vector256.Widen(scale));
        return Vector256.Narrow(Zero(l0, s0), Zero(l1, s1));

        Vector256<double> Zero(Vector256<double> l, Vector256<double> s) =>
            Vector256.Min(Vector256.Max(Vector256.Round(-l / s), Vector256<double>.Zero), Vector256.Create((double)steps));
    }

    private static Vector256<float> SquaredError(
        float weight,
        Vector256<float> scale,
        Vector256<float> inverse,
        Vector256<float> low,
        Vector256<float> high
    )
    {
        var w = Vector256.Create(weight);
        var d = w - Vector256.MinNative(Vector256.MaxNative(Vector256.Round(w * inverse), low), high) * scale;
        return d * d;
    }
}
