using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Runtime.Intrinsics.X86;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Activations;
using Serverless.Core.Techniques.BiasCorrection;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Whether weights keep a bit unused.</summary>
public enum ReduceRange
{
    /// <summary>Where this processor's products of 8-bit numbers saturate: x86 without VNNI.</summary>
    Auto,

    /// <summary>7 bits.</summary>
    Yes,

    /// <summary>8 bits.</summary>
    No,
}

/// <summary>Options of <see cref="StaticInteger"/>.</summary>
public sealed record StaticIntegerOptions
{
    /// <summary>
    /// Ranges of activations: minmax, average (moving average of extremes), percentile, entropy (KL divergence) or mse (default: least
    /// squared error).
    /// </summary>
    public RangeMethod Range { get; init; } = RangeMethod.Mse;

    /// <summary>With range: percentile, the percent of values that stay inside (default 99.99).</summary>
    [Range(90.0, 100)]
    public double Percentile { get; init; } = 99.99;

    /// <summary>
    /// Keep weights to 7 bits, for x86 processors without VNNI, whose 8-bit products saturate: auto (default: when this one is), yes or no.
    /// </summary>
    public ReduceRange ReduceRange { get; init; } = ReduceRange.Auto;

    /// <summary>
    /// Keep layers in float, with their weights in 8 bits, where integer kernels make the model slower on this machine (default true);
    /// false for a result that runs elsewhere.
    /// </summary>
    public bool OnlyIfFaster { get; init; } = true;

    /// <inheritdoc cref="GptqOptions.Samples"/>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>
/// Static int8: activations uint8 with a calibrated range, weights int8 with a scale a channel, biases int32 (Jacob et al.
/// 2018, sections 2 and 3). Conv, MatMul and Gemm of the main graph stand between QuantizeLinear and DequantizeLinear
/// where ONNX Runtime fuses them into integer kernels; everything else stays float with its weights at 8 bits.
/// </summary>
public sealed class StaticInteger : Quantizer<StaticIntegerOptions>
{
    private const long FewOutputs = 32,
        FewProducts = 48,
        LeastWeights = 1 << 14;

    /// <inheritdoc/>
    public override string Method => "static";

    /// <inheritdoc/>
    public override string About => "Activations and weights in int8, calibrated, run by integer kernels (Jacob et al. 2018).";

    /// <inheritdoc/>
    public override bool ObservesOutputs => true;

    /// <inheritdoc/>
    protected override StaticIntegerOptions Settled(StaticIntegerOptions options) =>
        options with
        {
            ReduceRange = Settled(options.ReduceRange),
        };

    /// <inheritdoc/>
    protected override Ladder Ladder(StaticIntegerOptions options) =>
        Techniques.Ladder.From(new Setting(this, options), RoundToNearest.At(8), RoundToNearest.At(16));

    /// <inheritdoc/>
    protected override int Samples(StaticIntegerOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, StaticIntegerOptions options) =>
        plans.Any(p => p.Activation is not null)
            ? [new Setting(new QuantizeActivations(), new NoOptions()), new Setting(new CorrectBiases(), new BiasCorrectionOptions())]
            : [];

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, StaticIntegerOptions options)
    {
        if (WhyFloat(weight, options) is { } why)
            return WeightsOnly(weight, shape, store, why);
        // What the nodes around it take is not counted: a small convolution left in float would cost more at each run.
        return new LayerPlan(
            FormName.Qdq,
            8,
            checked((int)Math.Min(int.MaxValue, shape.Axis)),
            shape.Elements + shape.Rows * 4,
            (shape.Rows * 4) + (4 << 20)
        )
        {
            Activation = new ActivationRounding(options.Range, options.Percentile),
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        StaticIntegerOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.Plan.Form == FormName.Qdq)
            return await ChannelInt8.EncodeAsync(work, Largest(options.ReduceRange), shard, cancellation);
        return await RoundToNearest.InsteadAsync(
            work,
            new RoundToNearestOptions(),
            $"weights only: {work.Plan.Instead}",
            shard,
            cancellation
        );
    }

    /// <inheritdoc/>
    protected override LayerPlan? InFloat(Weight weight, LayerShape shape, Store store, StaticIntegerOptions options, double ratio) =>
        options.OnlyIfFaster && WhyFloat(weight, options) is null ? Slower(weight, shape, store, ratio) : null;

    /// <summary>The plan of a layer that stays in float because integer kernels made the model slower.</summary>
    internal static LayerPlan Slower(Weight weight, LayerShape shape, Store store, double ratio)
    {
        var why = string.Create(
            CultureInfo.InvariantCulture,
            $"integer kernels are slower than float here: the model took {ratio:0.00} times as long"
        );
        return WeightsOnly(weight, shape, store, why) with
        {
            Warning = $"Layers stay float with their weights in 8 bits, as {why}; 'onlyIfFaster: false' keeps the integer kernels.",
        };
    }

    /// <summary>
    /// The plan of a layer that computes in float with its weight in 8 bits. A row of a large embedding shares a scale: finer ones would be
    /// a hundredth of the model, which those of small tables are not.
    /// </summary>
    internal static LayerPlan WeightsOnly(Weight weight, LayerShape shape, Store store, string why) =>
        BlockPlan.Of(weight, shape, store, new CodeRequest(8, GatherForm.IsLarge(weight, shape) ? 0 : null, 0)) with
        {
            Instead = why,
        };

    /// <summary>The largest code of a weight, for a range that is settled.</summary>
    internal static int Largest(ReduceRange reduce) => Settled(reduce) == ReduceRange.Yes ? 63 : 127;

    /// <summary>What <see cref="ReduceRange.Auto"/> means on this processor.</summary>
    internal static ReduceRange Settled(ReduceRange reduce)
    {
        if (reduce != ReduceRange.Auto)
            return reduce;
        return Sse2.IsSupported && !AvxVnni.IsSupported && !Avx512Vbmi.IsSupported ? ReduceRange.Yes : ReduceRange.No;
    }

    private static string? WhyFloat(Weight weight, StaticIntegerOptions options)
    {
        if (weight.Type != (int)Model.Schema.TensorProto.Types.DataType.Float)
            return "its type is not float32";
        if (weight.Scope.Parent is not null || weight.Scope.Function is not null)
            return "it is in a subgraph or function";
        if (weight.Scope.Opset < OpsetRaise.Lowest)
            return $"the operator set {weight.Scope.Opset} has no integer operators";
        foreach (var u in weight.Uses)
        {
            if (u.Scope.Parent is not null || u.Scope.Function is not null)
                return "it is used in a subgraph or function";
            if (!u.Direct)
                return $"a layout operator stands between it and {u.Op}";
            var fits = u switch
            {
                { Op: "Conv", Input: 1 } => weight.Reference.Dims.Length is 3 or 4,
                { Op: "MatMul", Input: 1 } => weight.Reference.Dims.Length == 2,
                { Op: "Gemm", Input: 1 } => weight.Reference.Dims.Length == 2
                    && u.IntAttribute("transA", 0) == 0
                    && u.FloatAttribute("alpha", 1) == 1
                    && u.FloatAttribute("beta", 1) == 1,
                _ => false,
            };
            if (!fits)
                return $"there is no integer kernel for {u.Op} here";
        }
        if (weight.Uses.All(u => u.Op == "Conv" && PooledVector.Is(u.Scope.Index, u.Node.Input[0])))
            return "it sees one vector a sample, too little work for an integer kernel to pay";
        // With instructions for products of 8-bit numbers it depends on more than the shape: the result is timed.
        if (options.OnlyIfFaster && Settled(options.ReduceRange) == ReduceRange.Yes && weight.Uses.All(u => IsNarrow(weight, u)))
            return "it is too narrow for an integer kernel to pay";
        return weight.Uses.Select(u => u.Op + u.IntAttribute("transB", 0)).Distinct().Count() > 1 ? "its uses differ" : null;
    }

    // One group of few outputs, or of few products each, whose channels float kernels hold in registers; and small matrices
    // (tests/Benchmarks, "integers static").
    private static bool IsNarrow(Weight weight, WeightUse use)
    {
        if (use.Op != "Conv")
            return weight.Reference.Elements < LeastWeights;
        var dims = weight.Reference.Dims;
        return use.IntAttribute("group", 1) == 1 && (dims[0] < FewOutputs || weight.Reference.Elements / dims[0] < FewProducts);
    }
}
