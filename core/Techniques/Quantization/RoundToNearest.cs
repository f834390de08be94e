using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="RoundToNearest"/>.</summary>
public sealed record RoundToNearestOptions
{
    /// <summary>Bits a weight: 8 (default), 16, 6, 5, 4, 3 or 2, or mixed: chosen for each layer within the budget.</summary>
    [AllowedValues(0, 2, 3, 4, 5, 6, 8, 16)]
    [Word("mixed", 0)]
    public int Bits { get; init; } = 8;

    /// <summary>
    /// Weights that share a scale: 'channel' (0) or 16, 32, 64, 128, 256. Default 32; where MatMulNBits runs it, 64 at 8 and 2 bits.
    /// </summary>
    [AllowedValues(0, 16, 32, 64, 128, 256)]
    [Word("channel", 0)]
    public int? Group { get; init; }

    /// <summary>No zero points (default true).</summary>
    public bool Symmetric { get; init; } = true;

    /// <summary>
    /// Share of the weights, smallest layers first, that get more bits: twice as many up to 8, then 16 (default 0.05). They are the
    /// first convolutions and the depthwise ones, small and sensitive.
    /// </summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;

    /// <summary>How scales are found: absmax, mse (least squared error over clipped ranges), or auto (default): mse below 8 bits.</summary>
    public ScaleSearch Scale { get; init; } = ScaleSearch.Auto;
}

/// <summary>
/// Weight-only round to nearest (RTN), a scale per channel or per block, 2 to 8 bits and 16. Jacob et al. 2018,
/// "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", eq. 1; per-block
/// scales as in com.microsoft.MatMulNBits. 3, 5 and 6 bits are stored as planes of 4, 2 and 1 bits and fold at load.
/// </summary>
public sealed class RoundToNearest : Quantizer<RoundToNearestOptions>
{
    /// <inheritdoc/>
    public override string Method => "rtn";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    public override string About =>
        "Weight-only round to nearest, 2 to 8 or 16 bits, a scale per channel or per block (Jacob et al. 2018, eq. 1).";

    /// <summary>Round to nearest at a number of bits.</summary>
    internal static Setting At(int bits, bool symmetric = true) =>
        new(new RoundToNearest(), new RoundToNearestOptions { Bits = bits, Symmetric = symmetric });

    /// <inheritdoc/>
    protected override Ladder Ladder(RoundToNearestOptions options)
    {
        if (options.Bits == 0)
            return WidthLadder.Of(
                ternary: true,
                options.Symmetric,
                w => new Setting(
                    this,
                    options with
                    {
                        Bits = w.Bits,
                        Group = w.Group ?? options.Group,
                        Symmetric = w.Symmetric,
                        Protect = 0,
                    }
                )
            );
        Setting At(int bits) => new(this, options with { Bits = bits });
        return options.Bits == 16
            ? Techniques.Ladder.From(At(16))
            : Techniques.Ladder.From([.. WidthLadder.From(options.Bits, At).Rungs.SkipLast(1).Select(r => r.Setting), At(16)]);
    }

    /// <inheritdoc/>
    protected override double Protect(RoundToNearestOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, RoundToNearestOptions options) =>
        BlockPlan.Of(weight, shape, store, new CodeRequest(options.Bits, options.Group, Symmetric(options) ? 0 : 1));

    /// <inheritdoc/>
    protected override Task<EncodedLayer> CompressAsync(
        LayerWork work,
        RoundToNearestOptions options,
        Stream shard,
        CancellationToken cancellation
    ) => BlockEncoding.EncodeAsync(work, half => Rounding(work.Plan, options, half), shard, cancellation);

    /// <summary>Rounds a layer to nearest in the place of another method.</summary>
    /// <param name="work">The layer, planned for the bits and groups of <paramref name="options"/>.</param>
    /// <param name="options">How to round.</param>
    /// <param name="fallback">What is done instead, and why: for the report.</param>
    /// <param name="shard">Receives the result.</param>
    /// <param name="cancellation">Cancels the work.</param>
    internal static async Task<EncodedLayer> InsteadAsync(
        LayerWork work,
        RoundToNearestOptions options,
        string fallback,
        Stream shard,
        CancellationToken cancellation
    ) => await new RoundToNearest().CompressAsync(work, options, shard, cancellation) with { Fallback = fallback };

    private static UniformRounding Rounding(LayerPlan plan, RoundToNearestOptions o, bool half) =>
        new(o.Bits, Symmetric(o), plan.Form != FormName.Folded || o.Bits < 8, half, BlockScale.Resolve(o.Scale, o.Bits));

    private static bool Symmetric(RoundToNearestOptions options) => options.Symmetric || options.Bits == 16;
}
