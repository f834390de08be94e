using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>What shares one Qm.n format.</summary>
public enum FixedPointUnit
{
    /// <summary>An output channel.</summary>
    Channel,

    /// <summary>The whole weight.</summary>
    Tensor,
}

/// <summary>Options of <see cref="FixedPoint"/>.</summary>
public sealed record FixedPointOptions
{
    /// <summary>Bits of a word, sign included: 8 (default) or 16.</summary>
    [AllowedValues(8, 16)]
    public int Bits { get; init; } = 8;

    /// <summary>What shares one Qm.n format: channel (default) or tensor.</summary>
    public FixedPointUnit Format { get; init; } = FixedPointUnit.Channel;

    /// <summary>Share of the weights, smallest layers first, that get 16 bits instead (default 0.05).</summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Fixed point in place of floating point: two's complement words of 8 or 16 bits with the binary point at a fixed
/// place, Qm.n, m + n + 1 bits, value = word · 2⁻ⁿ. n is the larger of the least that holds the largest magnitude and the
/// one above it, by squared error (saturating). Lin et al. 2016, "Fixed Point Quantization of Deep Convolutional
/// Networks", section 3.
/// </summary>
public sealed class FixedPoint : Quantizer<FixedPointOptions>
{
    /// <inheritdoc/>
    public override string Method => "fixed";

    /// <inheritdoc/>
    public override string About =>
        "Fixed point Qm.n in 8 or 16 bits: integers times a power of two, per channel or per tensor (Lin et al. 2016).";

    /// <inheritdoc/>
    protected override Ladder Ladder(FixedPointOptions options) =>
        Techniques.Ladder.From(new[] { options.Bits, 16 }.Distinct().Select(b => new Setting(this, options with { Bits = b })));

    /// <inheritdoc/>
    protected override double Protect(FixedPointOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, FixedPointOptions options) =>
        BlockPlan.Of(weight, shape, store, new CodeRequest(options.Bits, 0, 0) { Kernel = false });

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        FixedPointOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        int? shared =
            options.Format == FixedPointUnit.Tensor ? FractionBits(await LargestAsync(work.Weight, cancellation), options.Bits) : null;
        return await BlockEncoding.EncodeAsync(work, half => new PowerOfTwo(options.Bits, shared, half), shard, cancellation);
    }

    /// <summary>The most fraction bits n with which a magnitude fits a word: |w| ≤ (2^(bits−1) − 1) · 2⁻ⁿ.</summary>
    internal static int FractionBits(float largest, int bits)
    {
        if (largest == 0)
            return bits - 1;
        var n = (int)Math.Floor(Math.Log2(((1 << (bits - 1)) - 1) / (double)largest));
        return Math.Clamp(n, -100, 100);
    }

    private static async Task<float> LargestAsync(WeightReader weight, CancellationToken cancellation)
    {
        var largest = 0f;
        await weight.EachAsync(
            (_, part) =>
            {
                var (min, max) = BlockScale.Bounds(part);
                largest = Math.Max(largest, Math.Max(-min, max));
            },
            cancellation
        );
        return largest;
    }

    private sealed class PowerOfTwo(int bits, int? fractionBits, bool half) : BlockRounding
    {
        private readonly UniformRounding grid = new(bits, symmetric: true, biased: false, half, ScaleSearch.Absmax);

        public override int Bits => bits;

        public override bool Symmetric => true;

        public override bool Half => half;

        public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
        {
            var (min, max) = BlockScale.Bounds(weights);
            var n = fractionBits ?? FractionBits(Math.Max(-min, max), bits);
            var first = Code(weights, n, codes);
            if (fractionBits is null && bits == 8 && Rounding.SquaredError(weights, Scale(n + 1), 0, -127, 127) < first.SquaredError)
                first = Code(weights, ++n, codes);
            scales[0] = BlockScale.Store(Scale(n), half);
            return first;
        }

        private static float Scale(int n) => (float)Math.ScaleB(1, -n);

        private RoundedBlock Code(ReadOnlySpan<float> weights, int n, Span<byte> codes) =>
            bits == 16
                ? UniformRounding.Wide(weights, Scale(n), MemoryMarshal.Cast<byte, short>(codes))
                : grid.With(weights, new BlockScale(Scale(n), 0), codes);
    }
}
