using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Options of <see cref="SparseGpt"/>.</summary>
public sealed record SparseGptOptions : PruneOptions
{
    /// <summary>Damping: share of the mean of the Hessian's diagonal that is added to it (default 0.01).</summary>
    [Range(1e-6, 1)]
    public double Damping { get; init; } = 0.01;

    /// <summary>Columns whose mask is chosen at once, Bs of the paper (default 128); N:M is chosen group by group.</summary>
    [Range(1, 4096)]
    public int MaskBlock { get; init; } = 128;

    /// <summary>Samples to calibrate on, at most half of the data (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>
/// SparseGPT (Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", algorithm 1): of each
/// block of columns, corrected for the errors of all columns before, the weights of least w² / [H⁻¹]² become zero, and the later columns
/// make up for them. A layer whose input is not known, or whose Hessian stays singular, is pruned by magnitude; inputs that were never
/// active are pruned first.
/// </summary>
public sealed class SparseGpt : Pruning<SparseGptOptions>
{
    private const int MostDampings = 4;

    /// <inheritdoc/>
    public override string Method => "sparsegpt";

    /// <inheritdoc/>
    public override string About =>
        "Weights become zero that the others can make up for, and the others do, calibrated (Frantar and Alistarh 2023, SparseGPT).";

    /// <inheritdoc/>
    protected override string? WhyInvalid(SparseGptOptions options) => ObservedInput.WhyInvalid(options.Scope) ?? base.WhyInvalid(options);

    /// <inheritdoc/>
    protected override StatisticKinds Needs(SparseGptOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(SparseGptOptions options) => options.Samples;

    // The Gram matrix and its factor, a tile of rows with its residual, and the weight where it is turned around.
    /// <inheritdoc/>
    private protected override long WorkingBytes(LayerShape shape, SparseGptOptions options) =>
        shape.Axis * shape.Axis * 12
        + WeightTile.Rows(shape) * shape.Axis * 32
        + Math.Max(shape.Inner == 1 ? 0 : shape.Elements * 4, MaskChoice.WorkingBytes(shape, PatternOf(options)));

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        SparseGptOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (work.WhyNoGram is { } why)
            return await ObservedInput.ByMagnitudeAsync(work, options, why, shard, cancellation);
        var perGroup = work.Shape.Rows / work.Input!.GramGroups;
        if (PatternOf(options) is { IsBlocks: true } blocks && work.Input.GramGroups > 1 && perGroup % blocks.Rows != 0)
            return await ByWandaAsync(
                work,
                options,
                $"its groups of {perGroup} outputs hold no blocks of {blocks.Rows}",
                shard,
                cancellation
            );
        var done = await SolveAsync(work, options, shard, cancellation);
        if (done is not null)
            return done;
        shard.SetLength(0);
        return await ObservedInput.ByMagnitudeAsync(work, options, "the Hessian of its input is singular", shard, cancellation);
    }

    private static async Task<EncodedLayer> ByWandaAsync(
        LayerWork work,
        SparseGptOptions options,
        string why,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var same = new WandaOptions { Sparsity = options.Sparsity, Pattern = options.Pattern };
        return await new Wanda().CompressAsync(work, same, shard, cancellation) with { Fallback = $"pruned by wanda: {why}" };
    }

    private static async Task<EncodedLayer?> SolveAsync(
        LayerWork work,
        SparseGptOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (shape, input, pattern) = (work.Shape, work.Input!, PatternOf(options));
        var perGroup = shape.Rows / input.GramGroups;
        var rowsOfTile = WeightTile.Rows(shape);
        if (pattern.IsBlocks)
            rowsOfTile = Math.Max(pattern.Rows, rowsOfTile / pattern.Rows * pattern.Rows);
        var rows = new DenseRows(shape, work.Weight.DataType, shard);
        var share = new PrunedShare(Sparsity(options));
        var (error, unknown) = (0.0, 0L);
        for (var g = 0; g < input.GramGroups; g++)
        {
            var gram = await input.ReadGramAsync!(g, cancellation);
            bool[] dead = [.. Enumerable.Range(0, (int)shape.Axis).Select(k => gram[k * shape.Axis + k] == 0)];
            var damping = Math.Max(options.Damping, Hessian.Shrinkage(gram, input.GramRows));
            var hessian = Hessian.Of(gram, byMagnitude: false, damping, MostDampings, cancellation);
            // A group that was never active, as depthwise channels may be, does not take the others with it.
            unknown += hessian is null ? 1 : 0;
            if (hessian is null)
                (hessian, dead) = (Hessian.Unknown(gram, cancellation), new bool[dead.Length]);
            for (long first = 0; first < perGroup; first += rowsOfTile)
            {
                var tile = await TileAsync(
                    work.Weight,
                    shape,
                    g * perGroup + first,
                    (int)Math.Min(rowsOfTile, perGroup - first),
                    cancellation
                );
                var pruned = new PrunedColumns(tile, pattern, share, hessian.Factor, dead, options.MaskBlock, work.Masked);
                error += ErrorCompensation.Run(tile.Values, tile.Rows, hessian.Factor, hessian.Order, pruned, cancellation);
                await rows.WriteAsync(tile, pruned.Result, cancellation);
            }
        }
        if (unknown == input.GramGroups)
            return null;
        return await rows.FinishAsync(cancellation) with
        {
            IsCompensated = true,
            OutputError = error / Math.Max(1, input.GramRows),
            Fallback =
                unknown == 0
                    ? null
                    : $"{unknown} of {input.GramGroups} groups of inputs were never active; their weights are pruned by magnitude",
        };
    }

    private static async Task<RowTile> TileAsync(
        WeightReader weight,
        LayerShape shape,
        long first,
        int rows,
        CancellationToken cancellation
    ) => new(first, rows, await WeightTile.ReadAsync(weight, shape, first, rows, cancellation));
}
