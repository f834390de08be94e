using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Scales of a ternary block.</summary>
public enum TernaryScales
{
    /// <summary>One: values −α, 0, +α (TWN).</summary>
    One,

    /// <summary>Two: values −αₙ, 0, +αₚ (TTQ).</summary>
    Two,
}

/// <summary>How the threshold between zero and the scales is found.</summary>
public enum TernaryThreshold
{
    /// <summary>The one with the least squared error, by sorting.</summary>
    Optimal,

    /// <summary>0.7 of the mean magnitude (TWN, section 2.2).</summary>
    Mean,
}

/// <summary>Options of <see cref="Ternary"/>.</summary>
public sealed record TernaryOptions
{
    /// <summary>Weights that share scales: 'channel' (0) or 64, 128, 256, 512. Default 128, or 256 with two scales.</summary>
    [AllowedValues(0, 64, 128, 256, 512)]
    [Word("channel", 0)]
    public int? Group { get; init; }

    /// <summary>
    /// Scales of a group: one (default, TWN; the 2-bit kernel runs it) or two (TTQ; stored as two planes that fold at load).
    /// </summary>
    public TernaryScales Scales { get; init; } = TernaryScales.One;

    /// <summary>
    /// Threshold below which weights become zero: optimal (default: least squared error) or mean (0.7 of the mean magnitude).
    /// </summary>
    public TernaryThreshold Threshold { get; init; } = TernaryThreshold.Optimal;

    /// <summary>Share of the weights, smallest layers first, that get 4 bits instead (default 0.05).</summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Ternary weights. Li and Liu 2016, "Ternary Weight Networks", eq. 3 to 6: the threshold and scale of least squared
/// error. Zhu et al. 2017, "Trained Ternary Quantization": a scale for each sign; here both are fitted by least squares,
/// not trained. 2 bits a weight.
/// </summary>
public sealed class Ternary : Quantizer<TernaryOptions>
{
    private const int GentlerBits = 4,
        ShortestBlock = 64;

    /// <inheritdoc/>
    public override string Method => "ternary";

    /// <inheritdoc/>
    public override string About =>
        "Weights −α, 0, +α at 2 bits (Li and Liu 2016, TWN), or with a scale for each sign (Zhu et al. 2017, TTQ; fitted, not trained).";

    /// <inheritdoc/>
    protected override Ladder Ladder(TernaryOptions options) =>
        Techniques.Ladder.From([new Setting(this, options), .. WidthLadder.From(GentlerBits).Rungs.Select(r => r.Setting)]);

    /// <inheritdoc/>
    protected override double Protect(TernaryOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, TernaryOptions options) =>
        BlockPlan.Of(
            weight,
            shape,
            store,
            options.Scales == TernaryScales.One
                ? new CodeRequest(2, options.Group ?? 128, 0) { ShortestBlock = options.Group == 0 ? 0 : ShortestBlock }
                : new CodeRequest(1, options.Group ?? 256, 0)
                {
                    Terms = 2,
                    Kernel = false,
                    ShortestBlock = options.Group == 0 ? 0 : 2 * ShortestBlock,
                }
        );

    /// <inheritdoc/>
    protected override Task<EncodedLayer> CompressAsync(
        LayerWork work,
        TernaryOptions options,
        Stream shard,
        CancellationToken cancellation
    ) =>
        BlockEncoding.EncodeAsync(
            work,
            half => options.Scales == TernaryScales.One ? new OneScale(options.Threshold, half) : new TwoScales(options.Threshold, half),
            shard,
            cancellation
        );

    /// <summary>The threshold and the scale, the mean of the magnitudes above it.</summary>
    /// <param name="magnitudes">Magnitudes; sorted on return.</param>
    /// <param name="rule">How to find it.</param>
    internal static (float Threshold, double Scale) Fit(Span<float> magnitudes, TernaryThreshold rule)
    {
        double sum = 0;
        foreach (var m in magnitudes)
            sum += m;
        var limit = rule == TernaryThreshold.Mean ? 0.7 * sum / Math.Max(1, magnitudes.Length) : 0;
        magnitudes.Sort();
        // Of the k largest: squared error = Σw² − (Σ of them)² / k.
        var (best, at, scale, top) = (-1.0, magnitudes.Length, 0.0, 0.0);
        for (var i = magnitudes.Length - 1; i >= 0; i--)
        {
            top += magnitudes[i];
            var k = magnitudes.Length - i;
            var gain = top * top / k;
            var stop = i > 0 && magnitudes[i - 1] == magnitudes[i];
            if (rule == TernaryThreshold.Mean ? magnitudes[i] > limit : gain > best && !stop)
                (best, at, scale) = (gain, i, top / k);
        }
        return at == magnitudes.Length || scale == 0 ? (float.PositiveInfinity, 0) : (magnitudes[at], scale);
    }

    private sealed class OneScale(TernaryThreshold rule, bool half) : BlockRounding
    {
        private const byte Zero = 2;

        public override int Bits => 2;

        public override bool Symmetric => true;

        public override bool Half => half;

        public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
        {
            _ = BlockScale.Bounds(weights);
            Span<float> magnitudes = weights.Length <= 512 ? stackalloc float[weights.Length] : new float[weights.Length];
            System.Numerics.Tensors.TensorPrimitives.Abs(weights, magnitudes);
            var (threshold, fitted) = Fit(magnitudes, rule);
            var scale = scales[0] = BlockScale.Store((float)fitted, half);
            double error = 0;
            long nonzero = 0;
            codes.Fill(Zero);
            for (var i = 0; i < weights.Length; i++)
            {
                var sign =
                    weights[i] >= threshold ? 1
                    : weights[i] <= -threshold ? -1
                    : 0;
                codes[i] = (byte)(Zero + sign);
                var d = weights[i] - (double)sign * scale;
                error += d * d;
                if (sign != 0)
                    nonzero++;
            }
            return new RoundedBlock(0, error, nonzero);
        }
    }

    private sealed class TwoScales(TernaryThreshold rule, bool half) : BlockRounding
    {
        public override int Bits => 1;

        public override int Terms => 2;

        public override bool Symmetric => false;

        public override bool Half => half;

        public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
        {
            _ = BlockScale.Bounds(weights);
            Span<float> magnitudes = weights.Length <= 512 ? stackalloc float[weights.Length] : new float[weights.Length];
            double error = Rounding.SumOfSquares(weights);
            long nonzero = 0;
            codes.Clear();
            for (var t = 0; t < 2; t++)
            {
                var (sign, count) = (t == 0 ? 1f : -1f, 0);
                foreach (var w in weights)
                    if (sign * w > 0)
                        magnitudes[count++] = sign * w;
                var (threshold, fitted) = Fit(magnitudes[..count], rule);
                scales[t] = BlockScale.Store(sign * (float)fitted, half);
                var plane = codes[(t * codes.Length / 2)..];
                for (var i = 0; i < weights.Length; i++)
                {
                    if (sign * weights[i] < threshold)
                        continue;
                    plane[i] = 1;
                    nonzero++;
                    var d = weights[i] - (double)scales[t];
                    error += d * d - (double)weights[i] * weights[i];
                }
            }
            return new RoundedBlock(0, Math.Max(0, error), nonzero);
        }
    }
}
