using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Puts the product of two matrices in the place of one, of a rank at which both together have fewer weights: of MatMul and Gemm, of
/// convolutions, whose kernel is split between two or three, and of the input weights of recurrent layers. Each factor is a layer for the
/// steps behind.
/// </summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Factorization<TOptions> : LayerTechnique<TOptions>
    where TOptions : RankOptions, new()
{
    // Of the ratio given; the last is next to lossless where the ratio is a half.
    private static readonly double[] Shares =
    [
        1.0 / 64,
        1.0 / 16,
        0.125,
        0.25,
        0.375,
        0.5,
        0.625,
        0.75,
        0.875,
        1,
        1.125,
        1.25,
        1.5,
        1.75,
        1.95,
    ];

    /// <inheritdoc/>
    public override string Step => "factorize";

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    public override bool ChangesLayers => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'factorize' takes weights before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "factors of a pruned matrix hold no zeros: put 'factorize' in front of 'prune', which then prunes the factors"
            : null;
    }

    /// <inheritdoc/>
    public override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Factored;

    /// <inheritdoc/>
    protected override string? WhyInvalid(TOptions options) =>
        new object?[] { options.Ratio, options.Energy, options.Rank }.Count(o => o is not null) > 1
            ? "give one of 'ratio', 'energy' and 'rank'"
        : options is { Scope: RankScope.Global } and ({ Energy: not null } or { Rank: not null }) ? "'scope: global' goes with 'ratio'"
        : null;

    /// <inheritdoc/>
    protected override Ladder Ladder(TOptions options)
    {
        var given = new Setting(this, options);
        if (options.Scope == RankScope.Layer)
            return Techniques.Ladder.From(given);
        var ratio = options.Ratio ?? FactorLimit.DefaultRatio;
        var ratios = Shares.Select(s => s * ratio).Where(r => r < 1);
        return Techniques.Ladder.Open(
            ratios.Select(r => new Rung(new Setting(this, options with { Ratio = r, Scope = RankScope.Layer }), r)),
            ratio
        );
    }

    /// <inheritdoc/>
    protected override string? WhyNot(Weight weight, LayerShape shape, TOptions options)
    {
        if (ProductForm.WhyNot(weight) is { } why)
            return $"not factorized: it {why}";
        if (weight.Type != (int)DataType.Float || weight.Reference.DataType != weight.Type)
            return $"not factorized: its weights are {DataTypes.Name(weight.Reference.DataType)}";
        var layout = ProductLayout.Of(weight);
        var limit = FactorLimit.Of(layout, options);
        if (Ranks(layout, limit, options) is not null || FactorLimit.Splits(layout, options).Any(s => limit.Most(s) > 0))
            return null;
        return options.By == SplitBy.Space && FactorLimit.Splits(layout, options).Count == 0
            ? "not factorized: its kernel has no two axes to be split between"
            : $"not factorized: at rank {options.Rank ?? 1} it would be no smaller";
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, TOptions options)
    {
        var layout = ProductLayout.Of(weight);
        var limit = FactorLimit.Of(layout, options);
        var splits = FactorLimit.Splits(layout, options).Where(s => limit.Most(s) > 0).ToList();
        var ranks = Ranks(layout, limit, options);
        // What is chosen by the weights is at most as large as the limit.
        var open = options.Energy is not null || splits.Count + (ranks is null ? 0 : 1) != 1;
        var rank = splits.Count > 0 ? limit.Most(splits[0]) : ranks!.MostIn;
        var weights = open || splits.Count == 0 ? limit.Weights : rank * splits[0].Each;
        var (n, outputs) = (layout.Inputs * layout.Pixels, layout.Outputs);
        // The weight twice, a matrix of the vectors and its decomposition, in double.
        var working = 8 * (5 * layout.Elements + 4 * Math.Min(n, outputs) * Math.Min(n, outputs)) + WorkingBytes(layout);
        return new LayerPlan(FormName.Product, 32, 1, 4 * weights, working)
        {
            Rank = rank,
            IsMost = open,
            MultiplyAccumulates = weights,
            Layout = layout,
            Factors = splits.Count > 0 ? splits[0].Places(rank) : ranks!.Places(),
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        TOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var layout = work.Plan.Layout!;
        var weight = await InputsFirst.ReadAsync(work.Weight, layout, "not factorized", cancellation);
        var squares = TensorPrimitives.SumOfSquares<double>(weight);
        var approximation = await PrepareAsync(work, options, weight, cancellation);
        var found = Best(approximation, layout, options, cancellation);
        foreach (var factor in found.Factors)
            await shard.WriteAsync(MemoryMarshal.AsBytes(Array.ConvertAll(factor.Values, v => (float)v).AsSpan()).ToArray(), cancellation);
        var error = squares == 0 ? 0 : Math.Sqrt(Math.Max(0, found.Lost) / squares);
        var type = (int)DataType.Float;
        return EncodedLayer.OfFloats(FormName.Product, work.Shape, type, 4 * found.Weights, error, found.Weights) with
        {
            Rank = found.Rank,
            Factors = [.. found.Factors.Select(f => f.Place)],
            OutputError = found.OutputError,
            Fallback = approximation.Fallback,
        };
    }

    /// <summary>Memory that finding the factors takes beside the weight and its singular vectors.</summary>
    private protected virtual long WorkingBytes(ProductLayout layout) => 0;

    /// <summary>Finds out what factors are to be near to.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="weight">The weight, inputs × kernel × outputs.</param>
    /// <param name="cancellation">Cancels the work.</param>
    private protected abstract Task<IApproximation> PrepareAsync(
        LayerWork work,
        TOptions options,
        double[] weight,
        CancellationToken cancellation
    );

    // Of least error; by energy, of the fewest weights.
    private static FoundProduct Best(IApproximation of, ProductLayout layout, TOptions options, CancellationToken cancellation)
    {
        var (limit, energy) = (FactorLimit.Of(layout, options), options.Energy ?? 1);
        var found = FactorLimit
            .Splits(layout, options)
            .Select(s => (Split: s, Most: limit.Most(s)))
            .Where(s => s.Most > 0)
            .Select(s => of.Split(s.Split, s.Most, energy, cancellation))
            .ToList();
        if (Ranks(layout, limit, options) is { } ranks && of.Tucker(ranks, energy, cancellation) is { } three)
            found.Add(three);
        if (options.Energy is null)
            return found.MinBy(f => f.OutputError ?? f.Lost)!;
        return found.Where(f => f.Share >= energy).MinBy(f => f.Weights)
            ?? throw new LayerRefusedException(
                $"not factorized: at the largest rank that is smaller it keeps {found.Max(f => f.Share):0.###} of its energy"
            );
    }

    private static TuckerRanks? Ranks(ProductLayout layout, FactorLimit limit, TOptions options) =>
        TuckerRanks.Applies(layout, options) && new TuckerRanks(layout, limit) is { Any: true } ranks ? ranks : null;
}
