namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>Options of <see cref="DropByLoss"/>.</summary>
public sealed record LossOptions : BlockOptions;

/// <summary>
/// One block after the other goes, each time the one without which the outputs change least: the relative error of the model's outputs
/// without it, measured, where Zhong et al. 2024 ("BlockPruner: Fine-grained Pruning for Large Language Models") take the perplexity. The
/// first time each block is tried, up to 64 of least influence; later the eight that did least the time before.
/// </summary>
public sealed class DropByLoss : Dropping<LossOptions>
{
    private const int MostTried = 64,
        Again = 8,
        MostRounds = 32;

    /// <inheritdoc/>
    public override string Method => "loss";

    /// <inheritdoc/>
    public override string About =>
        "One by one the block goes without which the outputs change least, tried (Zhong et al. 2024, BlockPruner).";

    /// <inheritdoc/>
    internal override async Task<BlockSelection> ChooseAsync(
        GraphWork work,
        IReadOnlyList<RankedBlock> blocks,
        BlockAmount amount,
        CancellationToken cancellation
    )
    {
        var (chosen, curve) = (new List<RankedBlock>(), new List<BlockPoint>());
        IReadOnlyList<RankedBlock> open = [.. blocks.Take(MostTried)];
        while (chosen.Count < MostRounds)
        {
            open = [.. open.Where(b => amount.Allows(chosen, b))];
            if (open.Count == 0)
                break;
            var tried = new List<(RankedBlock Block, OutputChange Change)>();
            foreach (var block in chosen.Count == 0 ? open : open.Take(Again))
            {
                if (await BlockTrial.WithoutAsync(work, [.. chosen, block], cancellation) is not { } change)
                    return new BlockSelection(
                        [],
                        [],
                        "the model is too large to be run without each block; 'method: influence' needs no such runs"
                    );
                tried.Add((block, change));
            }
            var order = tried.OrderBy(t => t.Change.RelativeError).ToList();
            var (best, least) = order[0];
            curve.Add(BlockTrial.Point([.. chosen, best], least, amount));
            if (work.MostLoss is { } most && !(least.Lost <= most))
                return new BlockSelection(chosen, curve, "more would lose more than the budget grants");
            chosen.Add(best);
            var known = order.Select(t => t.Block).ToHashSet();
            open = [.. order.Select(t => t.Block), .. open.Where(b => !known.Contains(b))];
        }
        return new BlockSelection(
            chosen,
            curve,
            amount.IsShort(chosen) ? "no further block is left that fits and overlaps none of them" : null
        );
    }
}
