using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>How a block's scale is found.</summary>
public enum ScaleSearch
{
    /// <summary>Least squared error for few bits, largest magnitude at 8 bits.</summary>
    Auto,

    /// <summary>The largest magnitude (or the extremes, when asymmetric) map to the ends of the range.</summary>
    Absmax,

    /// <summary>The clipped range with the least squared error, searched over 0.4…1 of the full one.</summary>
    Mse,
}

/// <summary>
/// The scale and zero point of one block. Symmetric 8 bits: max|w| / 127, codes ±127. Symmetric below: the largest
/// magnitude with its sign maps to −2^(b−1), so that all 2^b codes are used. Asymmetric: [min(w, 0), max(w, 0)] over
/// 2^b − 1 steps.
/// </summary>
internal readonly record struct BlockScale(float Scale, int Zero)
{
    /// <summary>Clipped ranges that are tried besides the full one.</summary>
    internal const int Candidates = 24;
    private const float SmallestRatio = 0.4f;
    private const float Largest = 1e15f;

    /// <summary>What <see cref="ScaleSearch.Auto"/> means at a number of bits.</summary>
    public static ScaleSearch Resolve(ScaleSearch search, int bits) =>
        search != ScaleSearch.Auto ? search
        : bits < 8 ? ScaleSearch.Mse
        : ScaleSearch.Absmax;

    /// <summary>Smallest and largest code relative to a stored zero of 0.</summary>
    public static (int Low, int High) Range(int bits, bool symmetric) =>
        !symmetric ? (0, (1 << bits) - 1)
        : bits >= 8 ? (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1)
        : (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);

    /// <summary>Share of the full range that a candidate keeps: 1 at 0, falling to 0.4.</summary>
    internal static float Ratio(int candidate) => 1f - candidate * (1f - SmallestRatio) / Candidates;

    /// <summary>Finds the scale of a block.</summary>
    /// <param name="weights">The block.</param>
    /// <param name="bits">Bits a code.</param>
    /// <param name="symmetric">No zero point.</param>
    /// <param name="search">How to find it; not <see cref="ScaleSearch.Auto"/>.</param>
    /// <param name="half">Round the scale to FLOAT16.</param>
    /// <param name="error">Squared error of rounding the block with it.</param>
    /// <exception cref="LayerRefusedException">A weight is NaN or infinite.</exception>
    /// <exception cref="HalfRangeException">The scale is beyond FLOAT16.</exception>
    public static BlockScale Find(ReadOnlySpan<float> weights, int bits, bool symmetric, ScaleSearch search, bool half, out double error)
    {
        var (min, max) = Bounds(weights);
        if (search == ScaleSearch.Mse && ClippedRanges.TryFind(weights, min, max, bits, symmetric, half, out var found, out error))
            return found;
        return FindInTurn(weights, min, max, bits, symmetric, search, half, out error);
    }

    /// <summary>The plain search: one candidate after the other.</summary>
    internal static BlockScale FindInTurn(
        ReadOnlySpan<float> weights,
        float min,
        float max,
        int bits,
        bool symmetric,
        ScaleSearch search,
        bool half,
        out double least
    )
    {
        var (low, high) = Range(bits, symmetric);
        var best = Of(min, max, 1f, bits, symmetric, half);
        least = Rounding.SquaredError(weights, best.Scale, best.Zero, low, high);
        if (search == ScaleSearch.Absmax || best.Scale == 0)
            return best;
        for (var i = 1; i <= Candidates; i++)
        {
            var candidate = Of(min, max, Ratio(i), bits, symmetric, half);
            var error = Rounding.SquaredError(weights, candidate.Scale, candidate.Zero, low, high);
            if (error < least)
                (best, least) = (candidate, error);
        }
        return best;
    }

    /// <summary>The extremes of a block.</summary>
    /// <exception cref="LayerRefusedException">A weight is NaN, infinite or so large that squares overflow.</exception>
    public static (float Min, float Max) Bounds(ReadOnlySpan<float> weights)
    {
        var (min, max) = Extremes.Of(weights);
        if (!float.IsFinite(min) || !float.IsFinite(max))
            throw new LayerRefusedException("has NaN or infinite weights");
        if (MathF.Max(-min, max) > Largest)
            throw new LayerRefusedException($"has weights beyond ±{Largest:0e0}, whose errors overflow");
        return (min, max);
    }

    private static BlockScale Of(float min, float max, float ratio, int bits, bool symmetric, bool half)
    {
        var extreme = -min > max ? min : max;
        if (symmetric)
            return new BlockScale(
                Store(bits >= 8 ? MathF.Abs(extreme) * ratio / ((1 << (bits - 1)) - 1) : -extreme * ratio / (1 << (bits - 1)), half),
                0
            );
        var (lo, hi) = (MathF.Min(min, 0) * ratio, MathF.Max(max, 0) * ratio);
        var steps = (1 << bits) - 1;
        // Halves first: the difference of two finite floats may be infinite.
        var scale = Store((hi / steps) - (lo / steps), half);
        return scale == 0
            ? new BlockScale(0, 0)
            : new BlockScale(scale, (int)Math.Clamp(Math.Round(-(double)lo / scale, MidpointRounding.ToEven), 0, steps));
    }

    /// <summary>
    /// A scale as it is stored. Below FLOAT16's normal range it loses precision: <see cref="BlockEncoder.Suits"/> judges that for the
    /// layer.
    /// </summary>
    /// <exception cref="HalfRangeException">It is beyond FLOAT16.</exception>
    public static float Store(float scale, bool half)
    {
        if (!half)
            return scale;
        var rounded = (Half)scale;
        return Half.IsFinite(rounded) ? (float)rounded : throw new HalfRangeException();
    }
}

/// <summary>The scales of a layer do not fit FLOAT16; it is encoded again with FLOAT scales.</summary>
internal sealed class HalfRangeException : Exception;
