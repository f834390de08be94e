using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Serverless.Core.Numerics;

/// <summary>
/// Affine rounding of floats to small integers: q = clamp(round(w / scale) + zero, low, high), ties to even
/// (ONNX QuantizeLinear). Equal to the division in double precision to the last integer.
/// </summary>
public static class Rounding
{
    // |w * (1/scale) − w/scale| ≤ 128 · 2⁻²² for |w/scale| ≤ 128: nearer than this to a tie, the quotient is taken again in double.
    private const float SureDistance = 0.5f - 1e-4f;

    /// <summary>The reference: one weight, in double precision.</summary>
    public static int Quantize(float weight, float scale, int zero, int low, int high)
    {
        if (scale == 0)
            return Math.Clamp(zero, low, high);
        var q = Math.Round((double)weight / scale, MidpointRounding.ToEven);
        return (int)Math.Clamp(q + zero, low, high);
    }

    /// <summary>Rounds a block that shares one scale. Codes are the low eight bits of each integer.</summary>
    /// <param name="weights">Finite values.</param>
    /// <param name="scale">Step; may be negative; 0 gives <paramref name="zero"/> throughout.</param>
    /// <param name="zero">Zero point.</param>
    /// <param name="low">Smallest code, −128 or more.</param>
    /// <param name="high">Largest code, 255 or less.</param>
    /// <param name="codes">One byte a weight.</param>
    public static void Quantize(ReadOnlySpan<float> weights, float scale, int zero, int low, int high, Span<byte> codes)
    {
        codes = codes[..weights.Length];
        var inverse = 1f / scale;
        var i = 0;
        if (float.IsNormal(inverse) && Vector512.IsHardwareAccelerated)
            i = Vector512Blocks(weights, scale, inverse, zero, low, high, codes);
        else if (float.IsNormal(inverse) && Vector256.IsHardwareAccelerated)
            i = Vector256Blocks(weights, scale, inverse, zero, low, high, codes);
        for (; i < weights.Length; i++)
            codes[i] = (byte)Quantize(weights[i], scale, zero, low, high);
    }

    internal static int Vector512Blocks(
        ReadOnlySpan<float> weights,
        float scale,
        float inverse,
        int zero,
        int low,
        int high,
        Span<byte> codes
    )
    {
        ref var w = ref MemoryMarshal.GetReference(weights);
        ref var c = ref MemoryMarshal.GetReference(codes);
        var (inv, shift) = (Vector512.Create(inverse), Vector512.Create((float)zero));
        var (lo, hi) = (Vector512.Create((float)low), Vector512.Create((float)high));
        var sure = Vector512.Create(SureDistance);
        var i = 0;
        for (; i <= weights.Length - 64; i += 64)
        {
            var r0 = Vector512.LoadUnsafe(ref w, (nuint)i) * inv;
            var r1 = Vector512.LoadUnsafe(ref w, (nuint)i + 16) * inv;
            var r2 = Vector512.LoadUnsafe(ref w, (nuint)i + 32) * inv;
            var r3 = Vector512.LoadUnsafe(ref w, (nuint)i + 48) * inv;
            var (q0, q1, q2, q3) = (Vector512.Round(r0), Vector512.Round(r1), Vector512.Round(r2), Vector512.Round(r3));
            var far = Vector512.Max(
                Vector512.Max(Vector512.Abs(r0 - q0), Vector512.Abs(r1 - q1)),
                Vector512.Max(Vector512.Abs(r2 - q2), Vector512.Abs(r3 - q3))
            );
            Pack(q0, q1, q2, q3).StoreUnsafe(ref c, (nuint)i);
            if (Vector512.GreaterThanAny(far, sure))
                Again(weights, scale, zero, low, high, codes, i, 64);
        }
        for (; i <= weights.Length - 16; i += 16)
        {
            var r = Vector512.LoadUnsafe(ref w, (nuint)i) * inv;
            var q = Vector512.Round(r);
            Pack(q, q, q, q).GetLower().GetLower().StoreUnsafe(ref c, (nuint)i);
            if (Vector512.GreaterThanAny(Vector512.Abs(r - q), sure))
                Again(weights, scale, zero, low, high, codes, i, 16);
        }
        return i;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        Vector512<byte> Pack(Vector512<float> q0, Vector512<float> q1, Vector512<float> q2, Vector512<float> q3)
        {
            var s0 = Vector512.Narrow(Integer(q0), Integer(q1));
            var s1 = Vector512.Narrow(Integer(q2), Integer(q3));
            return Vector512.Narrow(s0.AsUInt16(), s1.AsUInt16());
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        Vector512<int> Integer(Vector512<float> q) =>
            Vector512.ConvertToInt32Native(Vector512.MinNative(Vector512.MaxNative(q + shift, lo), hi));
    }

    internal static int Vector256Blocks(
        ReadOnlySpan<float> weights,
        float scale,
        float inverse,
        int zero,
        int low,
        int high,
        Span<byte> codes
    )
    {
        ref var w = ref MemoryMarshal.GetReference(weights);
        ref var c = ref MemoryMarshal.GetReference(codes);
        var (inv, shift) = (Vector256.Create(inverse), Vector256.Create((float)zero));
        var (lo, hi) = (Vector256.Create((float)low), Vector256.Create((float)high));
        var sure = Vector256.Create(SureDistance);
        var i = 0;
        for (; i <= weights.Length - 32; i += 32)
        {
            var r0 = Vector256.LoadUnsafe(ref w, (nuint)i) * inv;
            var r1 = Vector256.LoadUnsafe(ref w, (nuint)i + 8) * inv;
            var r2 = Vector256.LoadUnsafe(ref w, (nuint)i + 16) * inv;
            var r3 = Vector256.LoadUnsafe(ref w, (nuint)i + 24) * inv;
            var (q0, q1, q2, q3) = (Vector256.Round(r0), Vector256.Round(r1), Vector256.Round(r2), Vector256.Round(r3));
            var far = Vector256.Max(
                Vector256.Max(Vector256.Abs(r0 - q0), Vector256.Abs(r1 - q1)),
                Vector256.Max(Vector256.Abs(r2 - q2), Vector256.Abs(r3 - q3))
            );
            var s0 = Vector256.Narrow(Integer(q0), Integer(q1));
            var s1 = Vector256.Narrow(Integer(q2), Integer(q3));
            Vector256.Narrow(s0.AsUInt16(), s1.AsUInt16()).StoreUnsafe(ref c, (nuint)i);
            if (Vector256.GreaterThanAny(far, sure))
                Again(weights, scale, zero, low, high, codes, i, 32);
        }
        return i;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        Vector256<int> Integer(Vector256<float> q) =>
            Vector256.ConvertToInt32Native(Vector256.MinNative(Vector256.MaxNative(q + shift, lo), hi));
    }

    /// <summary>Squared error of rounding a block with a scale and zero point, and the block's own squares.</summary>
    public static double SquaredError(ReadOnlySpan<float> weights, float scale, int zero, int low, int high)
    {
        var inverse = 1f / scale;
        if (!float.IsNormal(inverse))
            return SumOfSquares(weights);
        var (lo, hi) = ((float)(low - zero), (float)(high - zero));
        double total = 0;
        var i = 0;
        if (Vector256.IsHardwareAccelerated)
        {
            ref var w = ref MemoryMarshal.GetReference(weights);
            while (i <= weights.Length - 8)
            {
                var sum = Vector256<float>.Zero;
                for (var end = Math.Min(weights.Length - 8, i + 2048); i <= end; i += 8)
                {
                    var v = Vector256.LoadUnsafe(ref w, (nuint)i);
                    var q = Vector256.MinNative(
                        Vector256.MaxNative(Vector256.Round(v * inverse), Vector256.Create(lo)),
                        Vector256.Create(hi)
                    );
                    var d = v - q * scale;
                    sum += d * d;
                }
                total += Vector256.Sum(sum);
            }
        }
        for (; i < weights.Length; i++)
        {
            var d = weights[i] - Math.Clamp(MathF.Round(weights[i] * inverse), lo, hi) * scale;
            total += d * d;
        }
        return total;
    }

    /// <summary>Σ w², in double.</summary>
    public static double SumOfSquares(ReadOnlySpan<float> weights)
    {
        double total = 0;
        for (; weights.Length > 4096; weights = weights[4096..])
            total += System.Numerics.Tensors.TensorPrimitives.SumOfSquares(weights[..4096]);
        return total + System.Numerics.Tensors.TensorPrimitives.SumOfSquares(weights);
    }

    private static void Again(ReadOnlySpan<float> weights, float scale, int zero, int low, int high, Span<byte> codes, int start, int count)
    {
        for (var i = start; i < start + count; i++)
            codes[i] = (byte)Quantize(weights[i], scale, zero, low, high);
    }
}
