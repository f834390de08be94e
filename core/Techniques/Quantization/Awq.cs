using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="Awq"/>.</summary>
public sealed record AwqOptions
{
    /// <summary>Bits a weight: 4 (default), 2, 3, 5, 6 or 8.</summary>
    [AllowedValues(2, 3, 4, 5, 6, 8)]
    public int Bits { get; init; } = 4;

    /// <inheritdoc cref="RoundToNearestOptions.Group"/>
    [AllowedValues(0, 16, 32, 64, 128, 256)]
    [Word("channel", 0)]
    public int? Group { get; init; }

    /// <summary>No zero points (default false).</summary>
    public bool Symmetric { get; init; }

    /// <summary>Exponents tried between 0 and 1 (default 20).</summary>
    [Range(2, 100)]
    public int Grid { get; init; } = 20;

    /// <inheritdoc cref="GptqOptions.Samples"/>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <inheritdoc cref="GptqOptions.Protect"/>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Activation-aware weight quantization (Lin et al. 2024, "AWQ: Activation-aware Weight Quantization for LLM Compression and
/// Acceleration", section 3.2): weights of input channels whose activations are large are multiplied by s = mean|x|^α before
/// they are rounded, and the input divided by it (eq. 4 and 5). α is the one of a grid whose output error, by the second
/// moments of the input, is least. Where the weight folds at load the division is part of its decoding and costs
/// nothing; before a kernel it goes into the LayerNormalization or Mul that makes the input for this layer alone, else a Mul
/// is put in. Without statistics of the input, and for grouped convolutions, the layer is rounded to nearest.
/// </summary>
public sealed class Awq : Quantizer<AwqOptions>
{
    private const int FewestRows = 32,
        MostRows = 256;
    private const double MostProducts = 4e9;

    /// <inheritdoc/>
    public override string Method => "awq";

    /// <inheritdoc/>
    public override string About => "Weights scaled by their activations before rounding, calibrated (Lin et al. 2024, AWQ).";

    /// <inheritdoc/>
    protected override Ladder Ladder(AwqOptions options) =>
        WidthLadder.From(options.Bits, b => new Setting(this, options with { Bits = b }));

    /// <inheritdoc/>
    protected override double Protect(AwqOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(AwqOptions options) => StatisticKinds.Gram | StatisticKinds.Channels;

    /// <inheritdoc/>
    protected override int Samples(AwqOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, AwqOptions options)
    {
        var plan = BlockPlan.Of(weight, shape, store, new CodeRequest(options.Bits, options.Group, options.Symmetric ? 0 : 1));
        var channels = weight.Uses.Count > 0 && weight.Uses[0].Op == "Conv" ? weight.Reference.Dims[1] : shape.Axis;
        return plan with
        {
            BytesAfter = plan.BytesAfter + channels * (plan.Form == FormName.Folded ? 2 : 4),
            WorkingBytes = plan.WorkingBytes + shape.Axis * shape.Axis * 8 + Rows(shape) * shape.Axis * 32,
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        AwqOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var shape = work.Shape;
        var why = work.Input switch
        {
            null => work.NotObserved ?? "there are no statistics of its input",
            { GramAxis: 0 } or { GramRows: 0 } or { Channels: null } => "no sample reached it",
            { GramGroups: > 1 } => "it is a grouped convolution",
            { GramAxis: var axis } when axis != shape.Axis => "its input has another shape than its rows",
            { Channels: { } c } when shape.Axis % c.Channels != 0 => "its input's channels do not divide its rows",
            _ => null,
        };
        var plain = new RoundToNearestOptions
        {
            Bits = options.Bits,
            Group = options.Group,
            Symmetric = options.Symmetric,
        };
        if (why is not null)
            return await RoundToNearest.InsteadAsync(work, plain, $"rounded to nearest: {why}", shard, cancellation);
        var found = await SearchAsync(work, options, cancellation);
        var encoded = await BlockEncoding.EncodeAsync(
            work with
            {
                Weight = work.Weight.Scaled(found.Factors.Select(f => 1 / f).ToArray(), shape),
            },
            half => new UniformRounding(
                options.Bits,
                options.Symmetric,
                work.Plan.Form != FormName.Folded || options.Bits < 8,
                half,
                BlockScale.Resolve(ScaleSearch.Auto, options.Bits)
            ),
            shard,
            cancellation
        );
        encoded = encoded with { OutputError = found.OutputError, RelativeError = found.RelativeError };
        if (found.Alpha == 0)
            return encoded;
        // One a channel: the elements of a convolution's kernel share theirs.
        var (channels, each) = (work.Input!.Channels!.Channels, (int)shape.Axis / work.Input.Channels.Channels);
        var factors = Enumerable.Range(0, channels).Select(c => found.Factors[c * each]).ToArray();
        var bytes =
            work.Plan.Form == FormName.Folded
                ? MemoryMarshal.AsBytes<Half>([.. factors.Select(f => (Half)f)]).ToArray()
                : MemoryMarshal.AsBytes<float>(factors).ToArray();
        var range = new ShardRange(shard.Position, bytes.Length);
        await shard.WriteAsync(bytes, cancellation);
        var type = work.Plan.Form == FormName.Folded ? DataType.Float16 : DataType.Float;
        return encoded with { Grid = new ScaledGrid(encoded.Grid, new ShardNumbers(range, (int)type)) };
    }

    private sealed record Found(double Alpha, float[] Factors, double OutputError, double RelativeError);

    private static int Rows(LayerShape shape) =>
        (int)Math.Min(shape.Rows, Math.Clamp(MostProducts / 20 / ((double)shape.Axis * shape.Axis), FewestRows, MostRows));

    // The output error of some rows, spread evenly, under each exponent: Σ e·XᵀX·e with e = Q(w·s)/s − w.
    private static async Task<Found> SearchAsync(LayerWork work, AwqOptions options, CancellationToken cancellation)
    {
        var (shape, input) = (work.Shape, work.Input!);
        var (axis, rows) = ((int)shape.Axis, Rows(shape));
        var gram = await input.ReadGramAsync!(0, cancellation);
        var weights = new double[rows][];
        for (var r = 0; r < rows; r++)
            weights[r] = await WeightTile.ReadAsync(work.Weight, shape, shape.Rows * r / rows, 1, cancellation);
        var total = weights.Sum(w => w.Sum(v => v * v));
        var rounding = new UniformRounding(
            options.Bits,
            options.Symmetric,
            true,
            false,
            BlockScale.Resolve(ScaleSearch.Auto, options.Bits)
        );
        var (errors, products) = (new double[rows * axis], new double[rows * axis]);
        Found? best = null;
        for (var step = 0; step < options.Grid; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            var alpha = (double)step / options.Grid;
            var factors = Factors(input.Channels!, axis, alpha);
            double squares = 0;
            for (var r = 0; r < rows; r++)
                squares += Errors(weights[r], factors, rounding, work.Plan.Block, errors.AsSpan(r * axis, axis));
            MatrixProduct.Multiply(1, errors, false, gram, false, null, products, rows, axis, axis);
            var error = System.Numerics.Tensors.TensorPrimitives.Dot<double>(errors, products);
            var mean = error / Math.Max(1, input.GramRows) * shape.Rows / rows;
            if (best is null || mean < best.OutputError)
                best = new Found(alpha, factors, mean, total == 0 ? 0 : Math.Sqrt(squares / total));
        }
        return best!;
    }

    // What the input is multiplied by, 1 / s, exact in FLOAT16: s = mean|x|^α, centred so that the largest and smallest are inverses.
    internal static float[] Factors(ChannelStatistics channels, int axis, double alpha)
    {
        var scales = channels.Magnitudes.Select(m => Math.Max(1e-4, Math.Pow(m / Math.Max(1, channels.Count), alpha))).ToArray();
        var centre = Math.Sqrt(scales.Max() * scales.Min());
        var each = axis / scales.Length;
        return [.. Enumerable.Range(0, axis).Select(k => alpha == 0 ? 1 : (float)(Half)Math.Clamp(centre / scales[k / each], 1e-3, 1e3))];
    }

    private static double Errors(double[] weights, float[] factors, UniformRounding rounding, int block, Span<double> errors)
    {
        var (scaled, codes) = (new float[block], new byte[block]);
        Span<float> scale = stackalloc float[1];
        double squares = 0;
        for (var from = 0; from < weights.Length; from += block)
        {
            var length = Math.Min(block, weights.Length - from);
            for (var k = 0; k < length; k++)
                scaled[k] = (float)(weights[from + k] / factors[from + k]);
            var zero = rounding.Round(scaled.AsSpan(0, length), codes, scale).Zero + (rounding.Symmetric ? 1 << (rounding.Bits - 1) : 0);
            for (var k = 0; k < length; k++)
            {
                var e = errors[from + k] = (codes[k] - zero) * scale[0] * (double)factors[from + k] - weights[from + k];
                squares += e * e;
            }
        }
        return squares;
    }
}
