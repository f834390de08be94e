using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Options of <see cref="Wanda"/>.</summary>
public sealed record WandaOptions : PruneOptions
{
    /// <summary>Samples that inputs are observed on, at most (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>
/// Pruning by weights and activations (Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models", section 3): of
/// each row, the weights that make one output, those of least |w|·‖x‖₂ become zero, ‖x‖₂ being the norm of what the weight is
/// multiplied with over all samples (eq. 1). Blocks are compared over the layer, by the squares. A layer whose input is not known is pruned
/// by magnitude.
/// </summary>
public sealed class Wanda : Pruning<WandaOptions>
{
    /// <inheritdoc/>
    public override string Method => "wanda";

    /// <inheritdoc/>
    public override string About => "Of each row the weights of least |w|·‖x‖ become zero, calibrated (Sun et al. 2024, Wanda).";

    /// <inheritdoc/>
    protected override string? WhyInvalid(WandaOptions options) => ObservedInput.WhyInvalid(options.Scope) ?? base.WhyInvalid(options);

    /// <inheritdoc/>
    protected override StatisticKinds Needs(WandaOptions options) => StatisticKinds.Squares;

    /// <inheritdoc/>
    protected override int Samples(WandaOptions options) => options.Samples;

    /// <inheritdoc/>
    private protected override long WorkingBytes(LayerShape shape, WandaOptions options) =>
        shape.Axis * 24 + MaskChoice.WorkingBytes(shape, PatternOf(options));

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        WandaOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.WhyNoSquares is { } why)
            return await ObservedInput.ByMagnitudeAsync(work, options, why, shard, cancellation);
        var (weight, shape, pattern) = (work.Weight, work.Shape, PatternOf(options));
        var importance = new InputMagnitude(await ObservedInput.SquaresAsync(work.Input!, cancellation), shape.Rows);
        var mask =
            pattern.IsGroups ? await MaskChoice.GroupsAsync(weight, shape, importance, pattern, cancellation)
            : pattern.IsBlocks
                ? (await BlockScores.OfAsync(weight, new BlockGrid(shape, pattern.Rows, pattern.Columns), importance, cancellation)).Least(
                    (long)(Sparsity(options) * shape.Elements)
                )
            : await MaskChoice.RowsAsync(weight, shape, importance, Sparsity(options), cancellation);
        return await MaskedCopy.WriteAsync(work, mask.Apply, shard, cancellation);
    }
}
