using System.ComponentModel.DataAnnotations;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Options of <see cref="Separate"/>.</summary>
public sealed record SeparateOptions
{
    /// <summary>Terms of each layer's sum (default 1, where no ratio is given).</summary>
    [Range(1, 1024)]
    public int? Terms { get; init; }

    /// <summary>Multiply-accumulates of each layer, at most, over those before: the terms follow.</summary>
    [Range(0.01, 0.99)]
    public double? Ratio { get; init; }

    /// <summary>Samples that inputs are observed on, at most (default 128); 0 refits nothing.</summary>
    [Range(0, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>
    /// Share of the mean of the Gram matrix's diagonal that is added to it, at least (default 0.0001): more where the samples are few.
    /// </summary>
    [Range(0.0, 1)]
    public double Damping { get; init; } = 1e-4;
}

/// <summary>
/// Depthwise separation (Guo et al. 2018, "Network Decoupling: From Regular to Depthwise Separable Convolutions"): a convolution becomes a
/// sum of depthwise and 1×1 convolutions, in the order of less error. The 1×1 part is refitted to the layer's outputs on its real inputs.
/// </summary>
public sealed class Separate : LayerTechnique<SeparateOptions>
{
    /// <inheritdoc/>
    public override string Step => "separate";

    /// <inheritdoc/>
    public override string About =>
        "A convolution becomes a sum of depthwise and 1x1 convolutions, refitted on real inputs (Guo et al. 2018, Network Decoupling).";

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    public override bool ChangesLayers => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'separate' takes weights before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "parts of a pruned kernel hold no zeros: put 'separate' in front of 'prune', which then prunes the parts"
            : null;
    }

    /// <inheritdoc/>
    public override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Factored;

    /// <inheritdoc/>
    protected override string? WhyInvalid(SeparateOptions options) =>
        options is { Terms: not null, Ratio: not null } ? "give one of 'terms' and 'ratio'" : null;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(SeparateOptions options) => options.Samples > 0 ? StatisticKinds.Gram : StatisticKinds.None;

    /// <inheritdoc/>
    protected override int Samples(SeparateOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override string? WhyNot(Weight weight, LayerShape shape, SeparateOptions options)
    {
        if (weight.Uses.FirstOrDefault(u => u.Op != "Conv") is { } other)
            return $"not separated: it is used by {other.Op}";
        if (ProductForm.WhyNot(weight) is { } why)
            return $"not separated: it {why}";
        if (weight.Type != (int)DataType.Float || weight.Reference.DataType != weight.Type)
            return $"not separated: its weights are {DataTypes.Name(weight.Reference.DataType)}";
        var layout = ProductLayout.Of(weight);
        if (layout.Pixels == 1)
            return "not separated: its kernel has one element";
        return Plans(layout, options).Count > 0
            ? null
            : $"not separated: {options.Terms ?? 1} of its terms take more multiply-accumulates than are left";
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, SeparateOptions options)
    {
        var layout = ProductLayout.Of(weight);
        var plans = Plans(layout, options);
        var (n, most) = (layout.Inputs * layout.Pixels, plans.Max(p => p.Weights));
        // The moments, damped, in blocks and projected on both sides; the weight several times; moments of an output's filtered inputs.
        var filtered = plans.Max(p => p.DepthwiseFirst ? n : p.Terms * layout.Inputs);
        var working = 8 * (6 * n * n + 5 * layout.Elements + 4 * filtered * filtered);
        return new LayerPlan(FormName.Product, 32, 1, 4 * most, working)
        {
            Rank = plans[0].Terms,
            IsMost = plans.Count > 1,
            MultiplyAccumulates = plans.Max(p => p.Work),
            Layout = layout,
            Factors = plans[0].Places(),
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        SeparateOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var layout = work.Plan.Layout!;
        var weight = await InputsFirst.ReadAsync(work.Weight, layout, "not separated", cancellation);
        var squares = TensorPrimitives.SumOfSquares<double>(weight);
        var (moments, why) = await MomentsAsync(work, options, cancellation);
        var damped = moments?.Damped(options.Damping);
        if (moments is not null && damped is null)
            (moments, why) = (null, "no input was active");
        var found = Plans(layout, options).Select(Found).MinBy(f => f.OutputError ?? f.Lost)!;
        foreach (var factor in found.Factors)
            await shard.WriteAsync(MemoryMarshal.AsBytes(Array.ConvertAll(factor.Values, v => (float)v).AsSpan()).ToArray(), cancellation);
        var error = squares == 0 ? 0 : Math.Sqrt(found.Lost / squares);
        var type = (int)DataType.Float;
        return EncodedLayer.OfFloats(FormName.Product, work.Shape, type, 4 * found.Weights, error, found.Weights) with
        {
            Rank = found.Rank,
            Factors = [.. found.Factors.Select(f => f.Place)],
            OutputError = found.OutputError,
            Fallback = why is null ? null : $"separated without its inputs: {why}",
        };

        FoundProduct Found(SeparationPlan plan) => Separate.Found(plan, weight, moments, damped, cancellation);
    }

    /// <summary>The sum that a plan asks for.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="moments">Moments of the inputs, or null.</param>
    /// <param name="damped">The same, damped, which the 1×1 part is fitted to; or null.</param>
    /// <param name="cancellation">Cancels the work.</param>
    internal static FoundProduct Found(
        SeparationPlan plan,
        double[] weight,
        InputMoments? moments,
        double[]? damped,
        CancellationToken cancellation
    )
    {
        IReadOnlyList<FoundFactor> factors;
        double[] lost;
        if (plan.DepthwiseFirst)
        {
            var sum = DepthwiseFirst.Of(weight, plan, cancellation);
            sum = damped is null ? sum : sum.Refitted(weight, damped, cancellation);
            (factors, lost) = (sum.Factors(), sum.Product());
        }
        else
        {
            var sum = PointwiseFirst.Of(weight, plan, cancellation);
            sum = damped is null ? sum : sum.Refitted(weight, damped, cancellation);
            (factors, lost) = (sum.Factors(), sum.Product());
        }
        TensorPrimitives.Subtract<double>(weight, lost, lost);
        return new FoundProduct(factors, TensorPrimitives.SumOfSquares<double>(lost), 1)
        {
            Rank = plan.Terms,
            OutputError = moments?.ErrorOf(lost, (int)plan.Layout.Outputs),
        };
    }

    private static IReadOnlyList<SeparationPlan> Plans(ProductLayout layout, SeparateOptions options) =>
        SeparationPlan.Of(layout, options.Ratio is null ? options.Terms ?? 1 : null, options.Ratio);

    private static async Task<(InputMoments? Moments, string? Why)> MomentsAsync(
        LayerWork work,
        SeparateOptions options,
        CancellationToken cancellation
    )
    {
        if (options.Samples == 0)
            return (null, null);
        return work.WhyNoGram is { } why
            ? (null, why)
            : (new InputMoments(await work.Input!.ReadGramAsync!(0, cancellation), work.Input.GramRows), null);
    }
}
