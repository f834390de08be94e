using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Options of <see cref="Product"/>.</summary>
public sealed record ProductOptions
{
    /// <summary>Bits of an index, 1 to 12: a codebook has as many as 2^bits codewords (default 8).</summary>
    [Range(1, 12)]
    public int Bits { get; init; } = 8;

    /// <summary>Weights of a codeword, which follow one another along a row: 1, 2 (default), 4 or 8.</summary>
    [AllowedValues(1, 2, 4, 8)]
    public int Dimension { get; init; } = 2;

    /// <inheritdoc cref="CodebookOptions.Rows"/>
    [Range(1, 1_000_000)]
    public int? Rows { get; init; }

    /// <inheritdoc cref="CodebookOptions.Scale"/>
    public RowScale Scale { get; init; } = RowScale.None;

    /// <summary>Whether the error of each codeword is made up for by those that follow in the row (default true).</summary>
    public bool Feedback { get; init; } = true;

    /// <summary>With feedback: how often codebooks are found anew of the corrected weights, 0 to 20 (default 4); each takes a pass.</summary>
    [Range(0, 20)]
    public int Rounds { get; init; } = 4;

    /// <summary>Choose the codewords of large inputs first (default true).</summary>
    public bool Order { get; init; } = true;

    /// <inheritdoc cref="GptqOptions.Damping"/>
    [Range(1e-6, 1)]
    public double Damping { get; init; } = 0.01;

    /// <inheritdoc cref="CodebookOptions.Samples"/>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>
    /// Share of the weights, smallest layers first, that have a codebook of single weights with 8 bits instead (default 0.05).
    /// </summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;
}

/// <summary>
/// Weights that follow one another along a row take a codeword together (Jégou et al. 2011, "Product Quantization for Nearest Neighbor
/// Search", section II, with one codebook for all parts of a row as in Stock et al. 2020, "And the Bit Goes Down", section 3.1). Codewords
/// are found by k-means, each weight counting by the mean square of its input. With feedback they are chosen one part of the row after the
/// other, and the later ones make up for the error of the earlier (van Baalen et al. 2024, "GPTVQ: The Blessing of Dimensionality for LLM
/// Quantization", section 3).
/// </summary>
public sealed class Product : CodebookStep<ProductOptions>
{
    private const int GentleBits = 8;

    /// <inheritdoc/>
    public override string Method => "product";

    /// <inheritdoc/>
    public override string About =>
        "Runs of weights take a codeword together, errors compensated (Jégou et al. 2011; van Baalen et al. 2024, GPTVQ).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Masked)
            ? "codewords of several weights do not keep pruned ones zero: give 'method: codebook', which does"
            : base.WhyNotOn(before);

    /// <inheritdoc/>
    protected override Ladder Ladder(ProductOptions options)
    {
        var rungs = new List<Setting> { new(this, options) };
        for (var d = options.Dimension / 2; d >= 1; d /= 2)
            rungs.Add(new Setting(this, options with { Dimension = d, Bits = Math.Min(options.Bits, GentleBits) }));
        var last = new Setting(this, options with { Dimension = 1, Bits = GentleBits });
        return Techniques.Ladder.From([.. rungs.Append(last).DistinctBy(r => r.Options), RoundToNearest.At(16)]);
    }

    /// <inheritdoc/>
    protected override double Protect(ProductOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(ProductOptions options) => options.Feedback ? StatisticKinds.Gram : StatisticKinds.Squares;

    /// <inheritdoc/>
    protected override int Samples(ProductOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, ProductOptions options)
    {
        var layout = Layout(shape, options);
        var scaled = options.Scale == RowScale.Row;
        var nodes = layout.NodeBytes(scaled);
        var scales = scaled ? CodebookLayout.NumberBytes(shape.Rows) : 0;
        var gram = options.Feedback ? shape.Axis * shape.Axis * 12 : 0;
        var working = gram + WeightTile.Rows(shape) * shape.Axis * 40 + layout.Count * 2 + VectorSample.Bytes(layout);
        var bits = (options.Bits + options.Dimension - 1) / options.Dimension;
        return new LayerPlan(FormName.Codebook, bits, options.Dimension, layout.CodeBytes + layout.ValueBytes + scales + nodes, working)
        {
            NodeBytes = nodes,
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        ProductOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var layout = Layout(work.Shape, options);
        var why = options.Feedback ? work.WhyNoGram : work.WhyNoSquares;
        var factors = options.Feedback && why is null ? new InputFactors(work.Input!, options) : null;
        var masses =
            why is not null ? null
            : factors is not null ? await factors.MassesAsync(cancellation)
            : await ErrorWeights.OfAsync(work, cancellation);
        var scales = options.Scale == RowScale.Row ? await RowScales.OfAsync(work.Weight, work.Shape, cancellation) : null;
        var fit = await VectorFit.OfAsync(work, layout, masses, scales, cancellation);
        if (factors is not null)
            return await VectorFeedback.RunAsync(fit, work, factors, options.Rounds, shard, cancellation);
        var layer = await (await fit.NearestAsync(cancellation)).WriteAsync(shard, cancellation);
        return layer with { Fallback = why is null ? null : $"the nearest codewords: {why}" };
    }

    private static CodebookLayout Layout(LayerShape shape, ProductOptions options) =>
        new(shape, options.Bits, options.Dimension, CodebookLayout.RowsOf(shape, options.Rows));
}
