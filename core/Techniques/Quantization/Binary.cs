using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>What a binary weight is stored for.</summary>
public enum BinaryStorage
{
    /// <summary>1 bit a weight and term, folded to float at load.</summary>
    Small,

    /// <summary>2 bits a weight where the 2-bit kernel runs it: large matrices, order 1; else small.</summary>
    Fast,
}

/// <summary>Options of <see cref="Binary"/>.</summary>
public sealed record BinaryOptions
{
    /// <summary>Number of sign matrices whose scaled sum is the weight: 1 (default) to 4; each costs a bit a weight.</summary>
    [Range(1, 4)]
    public int Order { get; init; } = 1;

    /// <summary>Weights that share a scale: 'channel' (0) or 64, 128 (default), 256, 512.</summary>
    [AllowedValues(0, 64, 128, 256, 512)]
    [Word("channel", 0)]
    public int Group { get; init; } = 128;

    /// <summary>
    /// small (default): 1 bit a weight and order, folded to float at load; fast: 2 bits where the 2-bit kernel runs it (large matrices,
    /// order 1).
    /// </summary>
    public BinaryStorage Store { get; init; } = BinaryStorage.Small;

    /// <summary>
    /// Share of the weights, smallest layers first, that get the next order, or 4 bits behind order 1 and 4 (default 0.05).
    /// </summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Binary weights: sign and mean magnitude (Rastegari et al. 2016, "XNOR-Net", section 3.1, eq. 6), and of the residual
/// again, up to an order (Guo et al. 2017, "Network Sketching", algorithm 1), the scales refitted together (algorithm 2).
/// </summary>
public sealed class Binary : Quantizer<BinaryOptions>
{
    private const int GentlerBits = 4,
        MostOrder = 4,
        ShortestBlock = 64;

    /// <inheritdoc/>
    public override string Method => "binary";

    /// <inheritdoc/>
    public override string About =>
        "Signs and mean magnitudes at 1 bit (Rastegari et al. 2016, BWN), with residual sign matrices up to an order (Guo et al. 2017).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Masked)
            ? "binary codes have no zero, which pruned weights have to keep: take 'ternary'"
            : base.WhyNotOn(before);

    /// <inheritdoc/>
    protected override Ladder Ladder(BinaryOptions options)
    {
        var orders = options.Order == 1 ? [1] : Enumerable.Range(options.Order, Math.Max(1, MostOrder - options.Order + 1));
        return Techniques.Ladder.From([
            .. orders.Select(o => new Setting(this, options with { Order = o })),
            .. WidthLadder.From(GentlerBits).Rungs.Select(r => r.Setting),
        ]);
    }

    /// <inheritdoc/>
    protected override double Protect(BinaryOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, BinaryOptions options) =>
        BlockPlan.Of(
            weight,
            shape,
            store,
            new CodeRequest(1, options.Group, 0)
            {
                Terms = options.Order,
                Kernel = options is { Store: BinaryStorage.Fast, Order: 1 },
                KernelBits = 2,
                ShortestBlock = options.Group == 0 ? 0 : ShortestBlock,
            }
        );

    /// <inheritdoc/>
    protected override Task<EncodedLayer> CompressAsync(
        LayerWork work,
        BinaryOptions options,
        Stream shard,
        CancellationToken cancellation
    ) => BlockEncoding.EncodeAsync(work, half => new Signs(work.Plan.Bits, options.Order, half), shard, cancellation);

    // At 2 bits, codes 1 and 3 of the kernel mean −1 and +1.
    private sealed class Signs(int bits, int order, bool half) : BlockRounding
    {
        public override int Bits => bits;

        public override int Terms => order;

        public override bool Symmetric => true;

        public override bool Half => half;

        public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
        {
            _ = BlockScale.Bounds(weights);
            var (minus, plus) = bits == 2 ? ((byte)1, (byte)3) : ((byte)0, (byte)1);
            var stride = codes.Length / order;
            codes.Fill(bits == 2 ? (byte)2 : minus);
            Span<double> residual = weights.Length <= 512 ? stackalloc double[weights.Length] : new double[weights.Length];
            for (var i = 0; i < residual.Length; i++)
                residual[i] = weights[i];
            for (var t = 0; t < order; t++)
            {
                double sum = 0;
                foreach (var r in residual)
                    sum += Math.Abs(r);
                var scale = sum / weights.Length;
                scales[t] = (float)scale;
                for (var i = 0; i < residual.Length; i++)
                {
                    var up = residual[i] >= 0;
                    codes[t * stride + i] = up ? plus : minus;
                    residual[i] -= up ? scale : -scale;
                }
            }
            if (order > 1)
                SignFit.Scales(weights, codes, stride, plus, scales);
            for (var t = 0; t < order; t++)
                scales[t] = BlockScale.Store(scales[t], half);
            double error = 0;
            for (var i = 0; i < weights.Length; i++)
            {
                double value = weights[i];
                for (var t = 0; t < order; t++)
                    value -= codes[t * stride + i] == plus ? scales[t] : -(double)scales[t];
                error += value * value;
            }
            return new RoundedBlock(0, error, scales.IndexOfAnyExcept(0f) < 0 ? 0 : weights.Length);
        }
    }
}
