using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>Blocks that are to go.</summary>
/// <param name="Chosen">The blocks, in the order in which they were chosen; no two overlap.</param>
/// <param name="Curve">What the first one, the first two, and so on make of the outputs; none where the model is not run for it.</param>
/// <param name="Reason">Why there are fewer than asked for, or null.</param>
internal sealed record BlockSelection(IReadOnlyList<RankedBlock> Chosen, IReadOnlyList<BlockPoint> Curve, string? Reason);

/// <summary>How many blocks may go.</summary>
/// <param name="options">By number, or by share.</param>
/// <param name="sizes">Size of the model.</param>
internal sealed class BlockAmount(BlockOptions options, WeightSizes sizes)
{
    /// <summary>Whether a block may go behind those that go already.</summary>
    public bool Allows(IReadOnlyList<RankedBlock> chosen, RankedBlock more) =>
        chosen.Count < options.Most
        && chosen.All(b => !b.Block.Overlaps(more.Block))
        && !(options.Share is { } share && Size(chosen) + Size([more]) > share * Math.Max(1, IsMacs ? sizes.Macs : sizes.Parameters));

    /// <summary>Whether fewer go than were asked for by number.</summary>
    public bool IsShort(IReadOnlyList<RankedBlock> chosen) => options.Share is null ? chosen.Count < options.Most : chosen.Count == 0;

    /// <summary>Share of the model's weights that blocks hold.</summary>
    public double ParametersShare(IReadOnlyList<RankedBlock> chosen) =>
        (double)chosen.Sum(b => b.Parameters) / Math.Max(1, sizes.Parameters);

    private bool IsMacs => options.ShareOf == ShareOf.Macs;

    private double Size(IEnumerable<RankedBlock> blocks) => blocks.Sum(b => (double)(IsMacs ? b.MultiplyAccumulates : b.Parameters));
}

/// <summary>Runs of a model without some of its blocks.</summary>
internal static class BlockTrial
{
    /// <summary>What the model puts out without blocks.</summary>
    /// <returns>Null where the model is too large to be run for each trial.</returns>
    public static async Task<OutputChange?> WithoutAsync(GraphWork work, IEnumerable<RankedBlock> blocks, CancellationToken cancellation)
    {
        var model = work.Model.Clone();
        BlockRemoval.Remove(model, [.. blocks.Select(b => b.Block)], cancellation);
        return await work.TryAsync(model, cancellation);
    }

    /// <summary>A point of the curve.</summary>
    public static BlockPoint Point(IReadOnlyList<RankedBlock> chosen, OutputChange change, BlockAmount amount) =>
        new(chosen.Count, change.RelativeError, change.Cosine, change.Lost, amount.ParametersShare(chosen), chosen[^1].Block.Output);
}
