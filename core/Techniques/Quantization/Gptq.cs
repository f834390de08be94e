using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="Gptq"/>.</summary>
public sealed record GptqOptions
{
    /// <summary>Bits a weight: 4 (default), 2, 3, 5, 6 or 8, or mixed: chosen for each layer within the budget.</summary>
    [AllowedValues(0, 2, 3, 4, 5, 6, 8)]
    [Word("mixed", 0)]
    public int Bits { get; init; } = 4;

    /// <inheritdoc cref="RoundToNearestOptions.Group"/>
    [AllowedValues(0, 16, 32, 64, 128, 256)]
    [Word("channel", 0)]
    public int? Group { get; init; }

    /// <inheritdoc cref="RoundToNearestOptions.Symmetric"/>
    public bool Symmetric { get; init; } = true;

    /// <summary>
    /// Round the columns whose inputs are largest first (activation order, default true); scales are then those of the uncorrected weights.
    /// </summary>
    public bool Order { get; init; } = true;

    /// <summary>Damping: share of the mean of the Hessian's diagonal that is added to it (default 0.01).</summary>
    [Range(1e-6, 1)]
    public double Damping { get; init; } = 0.01;

    /// <summary>Samples to calibrate on, at most half of the data (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>Share of the weights, smallest layers first, that get more bits: twice as many up to 8, then 16 (default 0.05).</summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;

    /// <inheritdoc cref="RoundToNearestOptions.Scale"/>
    public ScaleSearch Scale { get; init; } = ScaleSearch.Auto;
}

/// <summary>
/// GPTQ: rounding that makes up for each column's error in the columns that follow, by the second moments of the layer's
/// input (<see cref="GptqSolver"/>). Without statistics of the input, and where the Hessian stays singular however it is
/// damped, the layer is rounded to nearest and the report says so. Inputs that were never active are rounded to nearest.
/// </summary>
public sealed class Gptq : Quantizer<GptqOptions>
{
    private const int MostDampings = 4;

    /// <inheritdoc/>
    public override string Method => "gptq";

    /// <inheritdoc/>
    public override string About =>
        "Rounding that compensates each column's error in the next ones, calibrated (Frantar et al. 2023, GPTQ).";

    /// <inheritdoc/>
    protected override Ladder Ladder(GptqOptions options) =>
        options.Bits != 0
            ? WidthLadder.From(options.Bits, b => new Setting(this, options with { Bits = b }))
            : WidthLadder.Of(
                ternary: false,
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

    /// <inheritdoc/>
    protected override double Protect(GptqOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(GptqOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(GptqOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, GptqOptions options)
    {
        var plan = BlockPlan.Of(weight, shape, store, new CodeRequest(options.Bits, options.Group, options.Symmetric ? 0 : 1));
        // The Gram matrix, its factor, a tile of rows with its residual, and the codes.
        return plan with
        {
            WorkingBytes = plan.WorkingBytes + shape.Axis * shape.Axis * 12 + WeightTile.Rows(shape) * shape.Axis * 32 + shape.Elements,
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        GptqOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.WhyNoGram is { } why)
            return await FallBackAsync(work, options, why, shard, cancellation);
        foreach (var half in work.Plan.Form == FormName.Folded ? new[] { true, false } : [false])
        {
            try
            {
                return await SolveAsync(work, options, half, shard, cancellation)
                    ?? await FallBackAsync(work, options, "the Hessian of its input is singular", shard, cancellation);
            }
            catch (HalfRangeException) when (half)
            {
                shard.SetLength(0);
            }
        }
        throw new InvalidOperationException("Scales as floats always fit.");
    }

    private static Task<EncodedLayer> FallBackAsync(
        LayerWork work,
        GptqOptions o,
        string why,
        Stream shard,
        CancellationToken cancellation
    ) =>
        RoundToNearest.InsteadAsync(
            work,
            new RoundToNearestOptions
            {
                Bits = o.Bits,
                Group = o.Group,
                Symmetric = o.Symmetric,
                Scale = o.Scale,
            },
            $"rounded to nearest: {why}",
            shard,
            cancellation
        );

    private static async Task<EncodedLayer?> SolveAsync(
        LayerWork work,
        GptqOptions o,
        bool half,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (shape, input) = (work.Shape, work.Input!);
        var search = BlockScale.Resolve(o.Scale, o.Bits);
        var fixedScales = o.Order || work.Plan.Block == shape.Axis;
        var how = new GptqRounding(o.Bits, o.Symmetric, work.Plan.Block, fixedScales, search, half, work.Masked);
        // Whole-byte symmetric codes of a folded layer are signed.
        var biased = work.Plan.Form != FormName.Folded || o.Bits < 8;
        var encoder = new BlockEncoder(shape, work.Plan.Block, new UniformRounding(o.Bits, o.Symmetric, biased, half, search));
        var codes = new byte[encoder.CodeBytes];
        var perGroup = shape.Rows / input.GramGroups;
        long dead = 0;
        double error = 0;
        for (var g = 0; g < input.GramGroups; g++)
        {
            var gram = await input.ReadGramAsync!(g, cancellation);
            var hessian = Hessian.Of(
                gram,
                o.Order,
                Math.Max(o.Damping, Hessian.Shrinkage(gram, input.GramRows)),
                MostDampings,
                cancellation
            );
            // A group that was never active, as depthwise channels may be, does not take the others with it.
            if (hessian is null && input.GramGroups == 1)
                return null;
            hessian ??= Hessian.Unknown(gram, cancellation);
            dead += hessian.Dead;
            for (long row = 0; row < perGroup; row += WeightTile.Rows(shape))
            {
                var rows = (int)Math.Min(WeightTile.Rows(shape), perGroup - row);
                var tile = await WeightTile.ReadAsync(work.Weight, shape, g * perGroup + row, rows, cancellation);
                var unmasked = work.Unmasked is { } u ? await WeightTile.ReadAsync(u, shape, g * perGroup + row, rows, cancellation) : null;
                var solved = GptqSolver.Solve(tile, rows, hessian.Factor, hessian.Order, how, cancellation, unmasked);
                error += solved.SquaredError;
                Put(
                    encoder,
                    solved,
                    unmasked ?? tile,
                    rows,
                    g * perGroup + row,
                    biased || !o.Symmetric ? 0 : -(1 << (o.Bits - 1)),
                    o.Symmetric,
                    codes
                );
            }
        }
        if (dead == shape.Axis * input.GramGroups)
            return null;
        if (half && !encoder.Suits)
            throw new HalfRangeException();
        await shard.WriteAsync(codes, cancellation);
        var made = await BlockEncoding.FinishAsync(encoder, work, shard, cancellation);
        return made with
        {
            OutputError = error / Math.Max(1, input.GramRows),
            OfUnmasked = work.Unmasked is not null,
            Fallback =
                dead == 0
                    ? null
                    : $"{dead} of {shape.Axis * input.GramGroups} inputs were never active; their weights are rounded to nearest",
        };
    }

    private static void Put(
        BlockEncoder encoder,
        GptqResult solved,
        double[] tile,
        int rows,
        long firstRow,
        int shift,
        bool symmetric,
        byte[] codes
    )
    {
        var (weights, block) = (new float[encoder.Block], new byte[encoder.Block]);
        var axis = tile.Length / rows;
        var middle = symmetric ? 1 << (encoder.Rounding.Bits - 1) : 0;
        for (var r = 0; r < rows; r++)
        {
            for (var b = 0; b < encoder.BlocksPerRow; b++)
            {
                var (scale, zero) = (solved.Scales[b * rows + r], solved.Zeros[b * rows + r]);
                var length = Math.Min(encoder.Block, axis - b * encoder.Block);
                double squares = 0;
                long nonzero = 0;
                for (var k = 0; k < length; k++)
                {
                    var at = (b * encoder.Block + k) * rows + r;
                    var code = solved.Codes[at];
                    var value = (code - middle - zero) * (double)scale;
                    weights[k] = (float)tile[at];
                    block[k] = (byte)(code + shift);
                    squares += (tile[at] - value) * (tile[at] - value);
                    if (value != 0)
                        nonzero++;
                }
                block.AsSpan(length).Fill((byte)(zero + middle + shift));
                encoder.Put(weights.AsSpan(0, length), scale, new RoundedBlock(zero, squares, nonzero), firstRow + r, b, block, codes);
            }
        }
    }
}
