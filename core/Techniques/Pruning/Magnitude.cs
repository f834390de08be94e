using System.ComponentModel;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Options of <see cref="Magnitude"/>.</summary>
public sealed record MagnitudeOptions : PruneOptions
{
    /// <summary>
    /// Magnitude below which weights become zero, once it was found for the model: of blocks, the root of their mean square; null before,
    /// and with other scopes than <see cref="PruneScope.Global"/>.
    /// </summary>
    [Browsable(false)]
    public float? Threshold { get; init; }
}

/// <summary>
/// Magnitude pruning (Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", section 3; global as in
/// Blalock et al. 2020, "What is the State of Neural Network Pruning?", section 2.3): the weights of least magnitude become zero, or the
/// blocks of least L2 norm for their size.
/// </summary>
public sealed class Magnitude : Pruning<MagnitudeOptions>
{
    /// <inheritdoc/>
    public override string Method => "magnitude";

    /// <inheritdoc/>
    public override string About => "The weights of least magnitude become zero (Han et al. 2015).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    protected override string? WhyInvalid(MagnitudeOptions options) =>
        options.Rounds > 1
            ? "'rounds' of 'method: magnitude' make of the model what one round makes of it, as no weight is changed in between: "
                + "leave it out"
            : base.WhyInvalid(options);

    /// <inheritdoc/>
    private protected override MagnitudeOptions Halved(MagnitudeOptions options) => options with { Threshold = options.Threshold / 2 };

    /// <inheritdoc/>
    protected override UnitKind Units(MagnitudeOptions options) =>
        options is { Scope: PruneScope.Global, Threshold: null } ? UnitKind.Layers : base.Units(options);

    /// <inheritdoc/>
    protected override async Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerShape shape,
        MagnitudeOptions options,
        CancellationToken cancellation
    )
    {
        if (options.Scope != PruneScope.Global)
            return await SurveyAsync(weight, dims, options, cancellation);
        if (PatternOf(options) is not { IsBlocks: true } blocks)
            return await WeightSurvey.OfAsync(weight, cancellation);
        var grid = new BlockGrid(shape, blocks.Rows, blocks.Columns);
        try
        {
            var scores = await BlockScores.OfAsync(weight, grid, new SquaredMagnitude(), cancellation);
            return new WeightSurvey(weight.Elements, scores.Histogram());
        }
        catch (LayerRefusedException)
        {
            // It is refused again, and the report says why, when the layer is compressed.
            return new WeightSurvey(0, new Dictionary<int, long>());
        }
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<MagnitudeOptions> Allocate(LayerUnit unit, IReadOnlyList<MagnitudeOptions> options)
    {
        if (options[0].Scope != PruneScope.Global)
            return base.Allocate(unit, options);
        IReadOnlyList<WeightSurvey> surveys = [.. unit.Members.Select(m => m.Survey)];
        var threshold = Threshold(surveys, Sparsity(options[0]));
        return [.. options.Select((o, i) => o with { Threshold = threshold, Sparsity = surveys[i].ShareBelow(threshold) })];
    }

    /// <inheritdoc/>
    private protected override long WorkingBytes(LayerShape shape, MagnitudeOptions options) =>
        PatternOf(options) is { IsGroups: false, IsBlocks: false } ? 0 : MaskChoice.WorkingBytes(shape, PatternOf(options));

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        MagnitudeOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (weight, pattern) = (work.Weight, PatternOf(options));
        var pruned = (long)(Sparsity(options) * weight.Elements);
        if (pattern.IsGroups)
        {
            var mask = await MaskChoice.GroupsAsync(weight, work.Shape, new SquaredMagnitude(), pattern, cancellation);
            return await MaskedCopy.WriteAsync(work, mask.Apply, shard, cancellation);
        }
        if (pattern.IsBlocks)
        {
            var grid = new BlockGrid(work.Shape, pattern.Rows, pattern.Columns);
            var scores = await BlockScores.OfAsync(weight, grid, new SquaredMagnitude(), cancellation);
            var mask = options.Threshold is { } score ? scores.Below(score) : scores.Least(pruned);
            return await MaskedCopy.WriteAsync(work, mask.Apply, shard, cancellation);
        }
        var (least, ties) = options.Threshold is { } threshold
            ? (BitConverter.SingleToUInt32Bits(threshold), 0L)
            : await ThresholdAsync(weight, pruned, cancellation);
        return await MaskedCopy.WriteAsync(
            work,
            (_, values) =>
            {
                for (var i = 0; i < values.Length; i++)
                    if (
                        (BitConverter.SingleToUInt32Bits(values[i]) & 0x7fff_ffff) is var bits
                        && (bits < least || bits == least && ties-- > 0)
                    )
                        values[i] = 0;
            },
            shard,
            cancellation
        );
    }

    private static float Threshold(IReadOnlyList<WeightSurvey> surveys, double sparsity)
    {
        var pruned = (long)(sparsity * surveys.Sum(s => s.Elements));
        if (pruned == 0)
            return 0;
        var (bucket, below, inside) = WeightSurvey.Find(surveys, pruned - 1);
        // As if the weights of the bucket lay evenly in it: it is as wide as a 128th of its place.
        var within = (uint)Math.Round((double)(pruned - below) / inside * 0x1_0000);
        return BitConverter.UInt32BitsToSingle(((uint)bucket << 16) + within);
    }

    // Weights below a magnitude become zero, and as many of those at it as the sparsity asks for, in the order of the weight.
    private static async Task<(uint Bits, long Ties)> ThresholdAsync(WeightReader weight, long pruned, CancellationToken cancellation)
    {
        if (pruned == 0)
            return (0, 0);
        var (bits, smaller) = await WeightSurvey.RankAsync(weight, pruned - 1, cancellation);
        return (bits, pruned - smaller);
    }
}
