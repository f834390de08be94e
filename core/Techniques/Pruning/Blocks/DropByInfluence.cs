namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>Options of <see cref="DropByInfluence"/>.</summary>
public sealed record InfluenceOptions : BlockOptions;

/// <summary>
/// The blocks whose output differs least from their input go (Men et al. 2024, "ShortGPT: Layers in Large Language Models are More
/// Redundant Than You Expect";
/// <see cref="BlockInfluence"/>). Under a budget of accuracy as many of them as keep it on samples that techniques see.
/// </summary>
public sealed class DropByInfluence : Dropping<InfluenceOptions>
{
    /// <inheritdoc/>
    public override string Method => "influence";

    /// <inheritdoc/>
    public override string About => "The blocks whose output differs least from their input go (Men et al. 2024, ShortGPT).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    internal override async Task<BlockSelection> ChooseAsync(
        GraphWork work,
        IReadOnlyList<RankedBlock> blocks,
        BlockAmount amount,
        CancellationToken cancellation
    )
    {
        var chosen = new List<RankedBlock>();
        foreach (var block in blocks)
            if (amount.Allows(chosen, block))
                chosen.Add(block);
        var curve = new List<BlockPoint>();
        for (var count = 1; count <= chosen.Count; count++)
        {
            if (await BlockTrial.WithoutAsync(work, chosen.Take(count), cancellation) is not { } change)
                return new BlockSelection(chosen, [], WhyUntried(work, amount, chosen));
            curve.Add(BlockTrial.Point(chosen[..count], change, amount));
        }
        var kept = work.MostLoss is { } most ? curve.LastOrDefault(p => p.Lost <= most)?.Blocks ?? 0 : chosen.Count;
        var reason = kept < chosen.Count ? "more would lose more than the budget grants" : WhyShort(amount, chosen);
        return new BlockSelection(chosen[..kept], curve, reason);
    }

    private static string? WhyUntried(GraphWork work, BlockAmount amount, IReadOnlyList<RankedBlock> chosen) =>
        work.MostLoss is null
            ? WhyShort(amount, chosen)
            : "the model is too large to be run for each number of blocks, so whether they keep the budget was not tried";

    private static string? WhyShort(BlockAmount amount, IReadOnlyList<RankedBlock> chosen) =>
        amount.IsShort(chosen) ? "no further block is left that fits and overlaps none of them" : null;
}
