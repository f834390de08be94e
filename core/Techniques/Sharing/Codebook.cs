using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Weights that share a codebook.</summary>
public enum CodebookScope
{
    /// <summary>Those of a layer, or of some of its rows.</summary>
    Layer,

    /// <summary>Those of all layers.</summary>
    Global,
}

/// <summary>Options of <see cref="Codebook"/>.</summary>
public sealed record CodebookOptions
{
    /// <summary>Bits of an index, 1 to 8 (default 4), or mixed: chosen for each layer within the budget.</summary>
    [AllowedValues(0, 1, 2, 3, 4, 5, 6, 7, 8)]
    [Word("mixed", 0)]
    public int Bits { get; init; } = 4;

    /// <summary>Where k-means begins: optimal (default), linear, density, random or plusPlus.</summary>
    public ClusterStart Start { get; init; } = ClusterStart.Optimal;

    /// <summary>Weights that share a codebook: those of a layer (default), or of all layers (global).</summary>
    public CodebookScope Scope { get; init; } = CodebookScope.Layer;

    /// <summary>Rows, the weights of an output, that share a codebook; about as many as divide the rows. Default all.</summary>
    [Range(1, 1_000_000)]
    public int? Rows { get; init; }

    /// <summary>Whether each row is divided by its root mean square first: row or none (default).</summary>
    public RowScale Scale { get; init; } = RowScale.None;

    /// <summary>What an error counts by: hessian (default), the mean square of the weight's input, or none.</summary>
    public ErrorWeight Weigh { get; init; } = ErrorWeight.Hessian;

    /// <summary>Samples that inputs are observed on, at most (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>Share of the weights, smallest layers first, that get more bits: twice as many up to 8 (default 0.05).</summary>
    [Range(0.0, 1)]
    public double Protect { get; init; } = 0.05;

    /// <summary>The codebook that all layers share, once it was found; null before.</summary>
    [Browsable(false)]
    public float[]? Values { get; init; }
}

/// <summary>
/// Weights take the values of a codebook found by k-means (Han et al. 2016, "Deep Compression", section 3), each counting by the mean square
/// of its input (Choi et al. 2017, "Towards the Limit of Network Quantization", section 3.3). Pruned weights have a codeword of their own,
/// zero.
/// </summary>
public sealed class Codebook : CodebookStep<CodebookOptions>
{
    private const int ReferenceBits = 4,
        Narrowest = 2,
        Widest = 8;

    /// <inheritdoc/>
    public override string Method => "codebook";

    /// <inheritdoc/>
    public override string About => "Weights take the values of a codebook found by k-means (Han et al. 2016, Deep Compression).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    protected override string? WhyInvalid(CodebookOptions options) =>
        options.Scope != CodebookScope.Global ? null
        : options.Bits == 0 ? "'scope: global' is one codebook for all layers: give 'bits', or leave 'scope' out"
        : options.Rows is not null ? "'scope: global' is one codebook for all layers: leave 'rows' out"
        : options.Bits == 1 ? "'scope: global' has zero among its values: give 'bits: 2' or more"
        : null;

    /// <inheritdoc/>
    protected override Ladder Ladder(CodebookOptions options)
    {
        // Gentler layers have a codebook of their own.
        Setting Of(int bits) =>
            new(
                this,
                bits == options.Bits
                    ? options
                    : options with
                    {
                        Bits = bits,
                        Scope = CodebookScope.Layer,
                        Values = null,
                        Protect = options.Bits == 0 ? 0 : options.Protect,
                    }
            );
        return options.Bits == 0
            ? Techniques.Ladder.Open(Enumerable.Range(Narrowest, Widest - 1).Select(b => new Rung(Of(b), b)), ReferenceBits)
            : WidthLadder.From(options.Bits, Of);
    }

    /// <inheritdoc/>
    protected override double Protect(CodebookOptions options) => options.Protect;

    /// <inheritdoc/>
    protected override StatisticKinds Needs(CodebookOptions options) =>
        options is { Weigh: ErrorWeight.Hessian, Scope: CodebookScope.Layer } ? StatisticKinds.Squares : StatisticKinds.None;

    /// <inheritdoc/>
    protected override int Samples(CodebookOptions options) => Needs(options) == StatisticKinds.None ? 0 : options.Samples;

    /// <inheritdoc/>
    protected override UnitKind Units(CodebookOptions options) =>
        options is { Scope: CodebookScope.Global, Values: null } ? UnitKind.Layers : UnitKind.Weight;

    /// <inheritdoc/>
    protected override Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerShape shape,
        CodebookOptions options,
        CancellationToken cancellation
    ) => GlobalCodebook.SurveyAsync(weight, shape, options, cancellation);

    /// <inheritdoc/>
    protected override IReadOnlyList<CodebookOptions> Allocate(LayerUnit unit, IReadOnlyList<CodebookOptions> options)
    {
        var values = GlobalCodebook.Of(unit.Members.Select(m => m.Survey), options[0]);
        return [.. options.Select(o => o with { Values = values })];
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, CodebookOptions options)
    {
        var layout = new CodebookLayout(shape, options.Bits, 1, CodebookLayout.RowsOf(shape, options.Rows));
        var scaled = options.Scale == RowScale.Row;
        var nodes = layout.NodeBytes(scaled);
        var books = options.Scope == CodebookScope.Global ? 0 : layout.ValueBytes;
        var scales = scaled ? CodebookLayout.NumberBytes(shape.Rows) : 0;
        // Numbers with their masses, sorted or in buckets; the symbols.
        var working =
            Math.Min(shape.Elements, layout.Books << 20) * 40 + (24L << 20) * layout.Books + shape.Elements * 2 + 3L * WeightReader.Whole;
        return new LayerPlan(FormName.Codebook, options.Bits, 1, layout.CodeBytes + books + scales + nodes, working) { NodeBytes = nodes };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        CodebookOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var why = Needs(options) == StatisticKinds.None ? null : work.WhyNoSquares;
        var masses = Needs(options) == StatisticKinds.None || why is not null ? null : await ErrorWeights.OfAsync(work, cancellation);
        var layer = await (await CodebookFit.RunAsync(work, options, masses, cancellation)).WriteAsync(shard, cancellation);
        return layer with { Fallback = why is null ? null : $"errors count the same: {why}" };
    }
}
