using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Serverless.Core.Numerics;

/// <summary>Smallest and largest of a block, in one pass.</summary>
public static class Extremes
{
    /// <summary>
    /// Minimum and maximum; (0, 0) of an empty block. A NaN or an infinity anywhere makes a result that is not finite.
    /// </summary>
    public static (float Min, float Max) Of(ReadOnlySpan<float> values)
    {
        if (values.Length == 0)
            return (0, 0);
        var (min, max) = (values[0], values[0]);
        var poison = 0f;
        var i = 0;
        ref var v = ref MemoryMarshal.GetReference(values);
        if (Vector512.IsHardwareAccelerated && values.Length >= 32)
        {
            var (lo0, hi0) = (Vector512.LoadUnsafe(ref v), Vector512.LoadUnsafe(ref v));
            var (lo1, hi1, bad) = (lo0, hi0, Vector512<float>.Zero);
            for (; i <= values.Length - 32; i += 32)
            {
                var a = Vector512.LoadUnsafe(ref v, (nuint)i);
                var b = Vector512.LoadUnsafe(ref v, (nuint)i + 16);
                (lo0, hi0) = (Vector512.MinNative(lo0, a), Vector512.MaxNative(hi0, a));
                (lo1, hi1) = (Vector512.MinNative(lo1, b), Vector512.MaxNative(hi1, b));
                bad += (a - a) + (b - b);
            }
            var (lo, hi) = (Vector512.MinNative(lo0, lo1), Vector512.MaxNative(hi0, hi1));
            (min, max) = Across(Vector256.MinNative(lo.GetLower(), lo.GetUpper()), Vector256.MaxNative(hi.GetLower(), hi.GetUpper()));
            poison = Vector512.Sum(bad);
        }
        else if (Vector256.IsHardwareAccelerated && values.Length >= 16)
        {
            var (lo, hi, bad) = (Vector256.LoadUnsafe(ref v), Vector256.LoadUnsafe(ref v), Vector256<float>.Zero);
            for (; i <= values.Length - 8; i += 8)
            {
                var a = Vector256.LoadUnsafe(ref v, (nuint)i);
                (lo, hi) = (Vector256.MinNative(lo, a), Vector256.MaxNative(hi, a));
                bad += a - a;
            }
            (min, max) = Across(lo, hi);
            poison = Vector256.Sum(bad);
        }
        for (; i < values.Length; i++)
        {
            (min, max) = (MathF.Min(min, values[i]), MathF.Max(max, values[i]));
            poison += values[i] - values[i];
        }
        return (min + poison, max + poison);
    }

    private static (float Min, float Max) Across(Vector256<float> low, Vector256<float> high)
    {
        var (l, h) = (Vector128.MinNative(low.GetLower(), low.GetUpper()), Vector128.MaxNative(high.GetLower(), high.GetUpper()));
        var (swap, turn) = (Vector128.Create(2, 3, 0, 1), Vector128.Create(1, 0, 3, 2));
        (l, h) = (Vector128.MinNative(l, Vector128.Shuffle(l, swap)), Vector128.MaxNative(h, Vector128.Shuffle(h, swap)));
        return (
            Vector128.MinNative(l, Vector128.Shuffle(l, turn)).ToScalar(),
            Vector128.MaxNative(h, Vector128.Shuffle(h, turn)).ToScalar()
        );
    }
}
