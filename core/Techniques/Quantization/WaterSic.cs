using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="WaterSic"/>.</summary>
public sealed record WaterSicOptions
{
    /// <summary>
    /// Entropy of a layer's codes, in bits a weight (default 3; 0.25 to 7), or mixed (0): chosen for each layer within the budget.
    /// </summary>
    [Range(0.0, 7)]
    [Word("mixed", 0)]
    public double Bits { get; init; } = 3;

    /// <summary>
    /// How much a bit weighs in the choice of a code (default 1, 0 to 8): 0 for the nearest; 1 is what a bit is worth where codes are many.
    /// </summary>
    [Range(0.0, 8)]
    public double Rate { get; init; } = 1;

    /// <summary>
    /// How much steps differ with the energy of inputs (default 0.25, 0 to 1): 1 is waterfilling, for a Hessian that is known well; 0 gives
    /// all inputs one step.
    /// </summary>
    [Range(0.0, 1)]
    public double Waterfill { get; init; } = 0.25;

    /// <inheritdoc cref="GptqOptions.Damping"/>
    [Range(1e-6, 1)]
    public double Damping { get; init; } = 0.01;

    /// <inheritdoc cref="GptqOptions.Samples"/>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>Share of the weights, smallest layers first, that get a bit more (default 0.05).</summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Rounding for weights that are coded at their entropy: GPTQ on an unbounded grid whose step is, for each input, inversely proportional to
/// what is left of that input's energy when those behind it are known (Lifar et al. 2026, "WaterSIC: information-theoretically (near)
/// optimal linear layer quantization"), with codes chosen by error and bits together (Conzelmann and Bamler 2025, "Reducing Storage of
/// Pretrained Neural Networks by Rate-Constrained Quantization and Entropy Coding"). Where codes are not coded at their entropy, as without
/// 'store: small', the layer is quantized by GPTQ.
/// </summary>
public sealed class WaterSic : Quantizer<WaterSicOptions>
{
    private const int MostDampings = 4;
    private const double ScaleBits = 16;

    // A bit a weight is what coding saves over packing, and a decoder takes 5 kB.
    private const long FewestWeights = 50_000;

    private static readonly double[] Rates = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6];
    private static readonly int[] Widths = [2, 3, 4, 5, 6, 8];

    /// <inheritdoc/>
    public override string Method => "watersic";

    /// <inheritdoc/>
    public override string About =>
        "Rounding for codes stored at their entropy: steps by input, codes by error and bits (Lifar et al. 2026, WaterSIC).";

    /// <inheritdoc/>
    protected override string? WhyInvalid(WaterSicOptions options) =>
        options.Bits is > 0 and < 0.25 ? "'bits' takes 'mixed' or a number from 0.25 to 7" : null;

    /// <inheritdoc/>
    protected override Ladder Ladder(WaterSicOptions options)
    {
        Setting At(double bits) => new(this, options with { Bits = bits });
        if (options.Bits == 0)
            return Techniques.Ladder.Open(
                Rates.Select(b => new Rung(new Setting(this, options with { Bits = b, Protect = 0 }), b)),
                reference: 3
            );
        var rungs = new List<Setting>();
        for (var bits = options.Bits; bits < 7; bits++)
            rungs.Add(At(bits));
        return Techniques.Ladder.From([.. rungs, At(7), RoundToNearest.At(16)]);
    }

    /// <inheritdoc/>
    protected override double Protect(WaterSicOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(WaterSicOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(WaterSicOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, WaterSicOptions options)
    {
        if (WhyNotCoded(weight, shape, store) is { } why)
            return new Gptq().Plan(weight, shape, store, (object)InItsPlace(options)) with { Instead = $"quantized by GPTQ: {why}" };
        var bytes = (long)Math.Ceiling((options.Bits * shape.Elements + ScaleBits * (shape.Axis + shape.Rows)) / 8);
        // The Gram matrix and its factor, a tile of rows with its residual, and the codes.
        var working = shape.Axis * shape.Axis * 12 + WeightTile.Rows(shape) * shape.Axis * 40 + 2 * shape.Elements;
        return new LayerPlan(FormName.Folded, 8, checked((int)Flipped(shape).Axis), bytes, working);
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        WaterSicOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.Plan.Instead is { } instead)
            return await new Gptq().CompressAsync(work, InItsPlace(options), shard, cancellation) with { Fallback = instead };
        var (shape, input) = (work.Shape, work.Input);
        var why = work.WhyNoGram ?? (input!.GramGroups > 1 ? "its groups have inputs of their own" : null);
        var hessian = why is null ? await FactorAsync(input!, options, cancellation) : null;
        if (why is null && hessian is null)
            why = "the Hessian of its input is singular";
        var rounding = await RateRounding.FindAsync(work, hessian, options, cancellation);
        var codes = new sbyte[shape.Elements];
        for (long row = 0; row < shape.Rows; row += WeightTile.Rows(shape))
        {
            var rows = (int)Math.Min(WeightTile.Rows(shape), shape.Rows - row);
            var tile = await WeightTile.ReadAsync(work.Weight, shape, row, rows, cancellation);
            var unmasked = work.Unmasked is { } u ? await WeightTile.ReadAsync(u, shape, row, rows, cancellation) : null;
            rounding.Round(tile, unmasked, rows, row, codes, cancellation);
        }
        var made = await WriteAsync(work, rounding, codes, shard, cancellation);
        return made with
        {
            OutputError = why is null ? rounding.OutputError / Math.Max(1, input!.GramRows) : null,
            OfUnmasked = work.Unmasked is not null,
            Fallback = why is null ? null : $"all inputs have one step: {why}",
        };
    }

    // Rows of the file's view are inputs, each with its step: their codes lie together, as they are alike in distribution.
    private static async Task<EncodedLayer> WriteAsync(
        LayerWork work,
        RateRounding rounding,
        sbyte[] codes,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var view = Flipped(work.Shape);
        var bits = codes.AsSpan().IndexOfAnyExceptInRange((sbyte)-8, (sbyte)7) < 0 ? 4 : 8;
        var packed = MemoryMarshal.AsBytes(codes.AsSpan()).ToArray();
        if (bits == 4)
        {
            for (var i = 0; i < packed.Length; i++)
                packed[i] = (byte)(packed[i] + 8);
            var pairs = new byte[BitPacking.Bytes(packed.Length, 4)];
            BitPacking.Pack(packed, 4, pairs);
            packed = pairs;
        }
        await shard.WriteAsync(packed, cancellation);
        var scales = MemoryMarshal.AsBytes<float>(rounding.Steps).ToArray();
        var half = rounding.Steps.Length >= CodeForm.HalfScalesFrom && rounding.IsHalf;
        if (half)
            scales = MemoryMarshal.AsBytes<Half>(Array.ConvertAll(rounding.Steps, s => (Half)s)).ToArray();
        await shard.WriteAsync(scales, cancellation);
        var numbers = new ShardNumbers(new ShardRange(packed.Length, scales.Length), (int)(half ? DataType.Float16 : DataType.Float));
        var factors = MemoryMarshal.AsBytes<Half>(rounding.Rows).ToArray();
        await shard.WriteAsync(factors, cancellation);
        var rows = new ShardNumbers(new ShardRange(packed.Length + scales.Length, factors.Length), (int)DataType.Float16);
        return new EncodedLayer(
            FormName.Folded,
            view,
            new ScaledGrid(new AffineGrid(bits, checked((int)view.Axis), 1, true, numbers, null), rows),
            new ShardRange(0, packed.Length),
            rounding.RelativeError,
            codes.LongLength - codes.AsSpan().Count((sbyte)0)
        );
    }

    private static async Task<Hessian?> FactorAsync(InputStatistics input, WaterSicOptions options, CancellationToken cancellation)
    {
        var gram = await input.ReadGramAsync!(0, cancellation);
        var damping = Math.Max(options.Damping, Hessian.Shrinkage(gram, input.GramRows));
        return Hessian.Of(gram, byMagnitude: true, damping, MostDampings, cancellation);
    }

    /// <summary>The view whose rows are the inputs.</summary>
    internal static LayerShape Flipped(LayerShape shape) =>
        shape.Inner == 1 ? new LayerShape(1, shape.Outer, shape.Axis) : new LayerShape(shape.Axis, shape.Inner, 1);

    private static string? WhyNotCoded(Weight weight, LayerShape shape, Store store)
    {
        if (store != Store.Small)
            return "codes are stored at their entropy with 'store: small' alone";
        if (RansNodes.WhyNot(weight.Scope) is { } why)
            return why;
        if (ModelEdit.Outermost(weight.Scope).All().Sum(s => s.Graph!.Initializer.Sum(t => TensorRef.Count(t.Dims) ?? 0)) < FewestWeights)
            return $"a model of fewer than {FewestWeights:N0} weights is smaller with packed codes than with a decoder";
        if (weight.Uses.Any(u => u.IntAttribute("group", 1) > 1))
            return "its groups have inputs of their own";
        return shape is { Outer: > 1, Inner: > 1 } || shape.Elements > EntropyCoding.MostBytes
            ? $"a weight of dims [{string.Join(',', weight.Reference.Dims)}] is not coded at its entropy"
            : null;
    }

    private static GptqOptions InItsPlace(WaterSicOptions options) =>
        new()
        {
            Bits = Widths.First(w => w >= Math.Min(8, options.Bits + 0.5)),
            Damping = options.Damping,
            Samples = options.Samples,
            Protect = options.Protect,
        };
}
