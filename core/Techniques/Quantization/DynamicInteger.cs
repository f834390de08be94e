using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Techniques.Activations;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="DynamicInteger"/>.</summary>
public sealed record DynamicIntegerOptions
{
    /// <inheritdoc cref="StaticIntegerOptions.ReduceRange"/>
    public ReduceRange ReduceRange { get; init; } = ReduceRange.Auto;

    /// <inheritdoc cref="StaticIntegerOptions.OnlyIfFaster"/>
    public bool OnlyIfFaster { get; init; } = true;
}

/// <summary>
/// Dynamic int8: weights int8 with a scale a column, activations rounded to uint8 as they come, by
/// <c>com.microsoft.DynamicQuantizeMatMul</c> and <c>com.microsoft.DynamicQuantizeLSTM</c> (ONNX Runtime ContribOperators.md).
/// Needs no data. MatMul, Gemm and LSTM, in subgraphs too; everything else keeps float activations with its weights at 8 bits.
/// </summary>
public sealed class DynamicInteger : Quantizer<DynamicIntegerOptions>
{
    private const int Nodes = 260;

    // Rounding the input takes longer than a smaller product saves (tests/Benchmarks, "integers dynamic").
    private const long LeastWeights = 1 << 15;

    /// <inheritdoc/>
    public override string Method => "dynamic";

    /// <inheritdoc/>
    public override string About =>
        "Weights in int8, activations rounded as they come, for MatMul, Gemm and LSTM (ONNX Runtime, dynamic quantization).";

    /// <inheritdoc/>
    protected override DynamicIntegerOptions Settled(DynamicIntegerOptions options) =>
        options with
        {
            ReduceRange = StaticInteger.Settled(options.ReduceRange),
        };

    /// <inheritdoc/>
    protected override Ladder Ladder(DynamicIntegerOptions options) =>
        Techniques.Ladder.From(new Setting(this, options), RoundToNearest.At(8), RoundToNearest.At(16));

    /// <inheritdoc/>
    protected override IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, DynamicIntegerOptions options) =>
        plans.Any(p => p.Form == FormName.Dynamic) ? [new Setting(new DynamicActivations(), new NoOptions())] : [];

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, DynamicIntegerOptions options) =>
        WhyFloat(weight, options) is { } why
            ? StaticInteger.WeightsOnly(weight, shape, store, why)
            : new LayerPlan(
                FormName.Dynamic,
                8,
                checked((int)Math.Min(int.MaxValue, shape.Axis)),
                shape.Elements + shape.Rows * 4 + Nodes,
                shape.Rows * 4 + (4 << 20)
            )
            {
                NodeBytes = Nodes,
            };

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        DynamicIntegerOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.Plan.Form == FormName.Dynamic)
            return await ChannelInt8.EncodeAsync(work, StaticInteger.Largest(options.ReduceRange), shard, cancellation);
        return await RoundToNearest.InsteadAsync(
            work,
            new RoundToNearestOptions(),
            $"weights only: {work.Plan.Instead}",
            shard,
            cancellation
        );
    }

    /// <inheritdoc/>
    protected override LayerPlan? InFloat(Weight weight, LayerShape shape, Store store, DynamicIntegerOptions options, double ratio) =>
        options.OnlyIfFaster && WhyFloat(weight, options) is null ? StaticInteger.Slower(weight, shape, store, ratio) : null;

    private static bool IsLstm(Weight weight) => weight.Uses.Any(u => u.Op == "LSTM");

    private static string? WhyFloat(Weight weight, DynamicIntegerOptions options)
    {
        if (weight.Type != (int)Model.Schema.TensorProto.Types.DataType.Float)
            return "its type is not float32";
        if (weight.Scope.Function is not null || weight.Uses.Any(u => u.Scope.Function is not null))
            return "it is in a model-local function";
        if (IsLstm(weight))
            return weight.Uses is [{ Direct: true } only] && weight.Reference.Dims.Length == 3 && only.IntAttribute("layout", 0) == 0
                ? null
                : "the LSTM shares it or has its batch first";
        if (weight.Reference.Dims.Length != 2)
            return "its weight is not a matrix";
        foreach (var u in weight.Uses)
        {
            if (!u.Direct)
                return $"a layout operator stands between it and {u.Op}";
            var fits =
                u is { Op: "MatMul", Input: 1 }
                || (
                    u is { Op: "Gemm", Input: 1 }
                    && u.IntAttribute("transA", 0) == 0
                    && u.FloatAttribute("alpha", 1) == 1
                    && u.FloatAttribute("beta", 1) == 1
                );
            if (!fits)
                return $"there is no dynamic integer kernel for {u.Op} here";
        }
        if (options.OnlyIfFaster && weight.Reference.Elements < LeastWeights)
            return "it is too little work for an integer kernel to pay";
        return weight.Uses.Select(u => u.IntAttribute("transB", 0)).Distinct().Count() > 1 ? "its uses differ" : null;
    }
}
