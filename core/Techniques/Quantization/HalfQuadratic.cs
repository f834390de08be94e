using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="HalfQuadratic"/>.</summary>
public sealed record HalfQuadraticOptions
{
    /// <inheritdoc cref="GptqOptions.Bits"/>
    [AllowedValues(0, 2, 3, 4, 5, 6, 8)]
    [Word("mixed", 0)]
    public int Bits { get; init; } = 4;

    /// <summary>Weights that share a scale and a zero point: 'channel' (0) or 16, 32, 64 (default), 128, 256.</summary>
    [AllowedValues(0, 16, 32, 64, 128, 256)]
    [Word("channel", 0)]
    public int Group { get; init; } = 64;

    /// <summary>Exponent p of the error's norm; below 1 lets few weights be far off (default 0.7).</summary>
    [Range(0.1, 1)]
    public double Norm { get; init; } = 0.7;

    /// <summary>Rounds of the half-quadratic solver at most (default 20).</summary>
    [Range(1, 200)]
    public int Iterations { get; init; } = 20;

    /// <inheritdoc cref="GptqOptions.Protect"/>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Half-quadratic quantization, without data: the zero point that minimises a sparse norm of the error, φ(w − ŵ) with
/// φ = ‖·‖ₚ, p &lt; 1, by alternating a generalised soft threshold and a mean (Badri and Shaji 2023, "Half-Quadratic
/// Quantization of Large Machine Learning Models", eq. 3 to 6). Zero points are FLOAT16 where the weight folds and whole
/// codes where a kernel reads them; the scale stays that of the extremes.
/// </summary>
public sealed class HalfQuadratic : Quantizer<HalfQuadraticOptions>
{
    /// <inheritdoc/>
    public override string Method => "hqq";

    /// <inheritdoc/>
    public override string About => "Zero points of least sparse-norm error, without data (Badri and Shaji 2023, HQQ).";

    /// <inheritdoc/>
    protected override Ladder Ladder(HalfQuadraticOptions options) =>
        options.Bits != 0
            ? WidthLadder.From(options.Bits, b => new Setting(this, options with { Bits = b }))
            : WidthLadder.Of(
                ternary: true,
                symmetric: false,
                w => new Setting(this, options with { Bits = w.Bits, Group = w.Group ?? options.Group, Protect = 0 })
            );

    /// <inheritdoc/>
    protected override double Protect(HalfQuadraticOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, HalfQuadraticOptions options) =>
        BlockPlan.Of(weight, shape, store, new CodeRequest(options.Bits, options.Group, 2));

    /// <inheritdoc/>
    protected override Task<EncodedLayer> CompressAsync(
        LayerWork work,
        HalfQuadraticOptions options,
        Stream shard,
        CancellationToken cancellation
    ) =>
        BlockEncoding.EncodeAsync(
            work,
            half => new Solver(options, half, whole: work.Plan.Form != FormName.Folded || !half || work.Masked),
            shard,
            cancellation
        );

    private sealed class Solver(HalfQuadraticOptions options, bool half, bool whole) : BlockRounding
    {
        private const double FirstBeta = 10,
            Kappa = 1.01;
        private readonly int top = (1 << options.Bits) - 1;

        public override int Bits => options.Bits;

        public override bool Symmetric => false;

        public override bool Half => half;

        public override ZeroPoints Zeros => whole ? ZeroPoints.Codes : ZeroPoints.Halves;

        public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
        {
            var (min, max) = BlockScale.Bounds(weights);
            (min, max) = whole ? (Math.Min(min, 0), Math.Max(max, 0)) : (min, max);
            var scale = scales[0] = BlockScale.Store((max / top) - (min / top), half);
            if (scale == 0)
            {
                // All weights are the same: one step from zero, or none.
                var one = BlockScale.Store(min, half);
                scale = scales[0] = one == 0 ? 1 : one;
                return Finish(weights, codes, scale, 0);
            }
            double zero = Stored(-(double)min / scale),
                bestZero = zero;
            var beta = FirstBeta;
            var least = Error(weights, scale, zero);
            // In units of the scale: codes − zero against w / scale.
            for (var i = 0; i < options.Iterations; i++)
            {
                double sum = 0;
                foreach (var w in weights)
                {
                    double x = w / (double)scale,
                        q = Code(x + zero),
                        r = x - (q - zero);
                    sum += q - (x - Shrink(r * scale, beta) / scale);
                }
                zero = Stored(sum / weights.Length);
                beta *= Kappa;
                var error = Error(weights, scale, zero);
                if (error >= least)
                    break;
                (least, bestZero) = (error, zero);
            }
            return Finish(weights, codes, scale, bestZero);
        }

        // The generalised soft threshold of the p-norm.
        private double Shrink(double x, double beta)
        {
            var a = Math.Abs(x);
            return a == 0 ? 0 : Math.Sign(x) * Math.Max(0, a - Math.Pow(a, options.Norm - 1) / beta);
        }

        private double Code(double x) => Math.Clamp(Math.Round(x, MidpointRounding.ToEven), 0, top);

        private double Stored(double zero) => whole ? Math.Clamp(Math.Round(zero, MidpointRounding.ToEven), 0, top) : (double)(Half)zero;

        private double Error(ReadOnlySpan<float> weights, double scale, double zero)
        {
            double sum = 0;
            foreach (var w in weights)
                sum += Math.Pow(Math.Abs(w - (Code(w / scale + zero) - zero) * scale), options.Norm);
            return sum;
        }

        private RoundedBlock Finish(ReadOnlySpan<float> weights, Span<byte> codes, double scale, double zero)
        {
            double error = 0;
            long nonzero = 0;
            for (var i = 0; i < weights.Length; i++)
            {
                codes[i] = (byte)Code(weights[i] / scale + zero);
                var value = (codes[i] - zero) * scale;
                error += (weights[i] - value) * (weights[i] - value);
                if (value != 0)
                    nonzero++;
            }
            codes[weights.Length..].Fill((byte)Code(zero));
            return new RoundedBlock((float)zero, error, nonzero);
        }
    }
}
