using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Matrices of like blocks become one, as ALBERT trains them (Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of
/// Language Representations", section 3.1, cross-layer parameter sharing), here after training. Neighbours are joined one pair after the
/// other; their units are matched first (<see cref="UnitMatching"/>), and each block may keep a low-rank difference to itself, W = S + A·B.
/// Biases and normalizations stay each block's own.
/// </summary>
public sealed class LayerSharing : GraphTechnique<LayerSharingOptions>
{
    // Pairs that are tried: at first, and after each join the best of those before.
    private const int MostTried = 32,
        Again = 6;
    private const long MostBytes = 1L << 30;

    /// <summary>Field of the report about all blocks.</summary>
    public const string Field = "sharedLayers";

    /// <summary>Field of the report with a row for each group of blocks.</summary>
    public const string ListField = "sharedBlocks";

    /// <summary>Field of the report with the outputs' change for each number of blocks.</summary>
    public const string CurveField = "sharingCurve";

    /// <inheritdoc/>
    public override string Step => "share";

    /// <inheritdoc/>
    public override string Method => "layers";

    /// <inheritdoc/>
    public override string About =>
        "Like layers share their matrices, units matched first (Lan et al. 2020, ALBERT; Ainsworth et al. 2023).";

    /// <inheritdoc/>
    public override bool Repeats => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'share' joins weights before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "a mean of pruned matrices holds other zeros: put 'share' in front of 'prune', which then prunes what is shared"
            : null;
    }

    /// <inheritdoc/>
    protected override string? WhyInvalid(LayerSharingOptions options) =>
        options is { Blocks: not null, Groups: not null } ? "'share' takes 'blocks' or 'groups', not both" : null;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, LayerSharingOptions options)
    {
        var sets = RepeatedBlock.SetsOf(model, new GraphFacts(model), options.Of, _ => null, default);
        if (sets.Count == 0)
            return GraphNeeds.None;
        var views = options.Weights == SharedMean.Sensitivity ? InputSquares.Views(sets) : [];
        return new GraphNeeds([.. views.Select(v => v.View)], StatisticKinds.Squares, options.Samples)
        {
            Tries = options.By == SharedBy.Loss,
        };
    }

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, LayerSharingOptions options, CancellationToken cancellation)
    {
        var facts = new GraphFacts(work.Model);
        var total = Weight.Of(work.Model, facts.Roots).Sum(w => w.Reference.Elements);
        // Observed were those that rules skip, too.
        var squares =
            options.Weights == SharedMean.Sensitivity
                ? await InputSquares.ReadAsync(
                    work,
                    InputSquares.Views(RepeatedBlock.SetsOf(work.Model, facts, options.Of, _ => null, cancellation)),
                    cancellation
                )
                : new Dictionary<string, double[]>();
        var found = RepeatedBlock.SetsOf(work.Model, facts, options.Of, work.WhySkipped, cancellation);
        if (options.By == SharedBy.Loss && found.Count > 0)
            work.RunsModel();
        var (sets, reason) = await ReadAsync(work, facts, found, squares, options, cancellation);
        var shared = new SharedSets(sets, options);
        var curve = new List<SharingPoint>();
        while (reason is null && shared.Merges(cancellation) is { Count: > 0 } merges)
        {
            var (best, change) =
                options.By == SharedBy.Loss
                    ? await BestAsync(work, shared, merges, curve.Count == 0 ? MostTried : Again, options, cancellation)
                    : (merges[0], null);
            if (best is null)
                reason = "the model takes no samples, or is too large to be run for each pair; 'by: distance' needs no such runs";
            else
            {
                if (change is not null)
                    curve.Add(
                        new SharingPoint(
                            shared.Merged + 1,
                            change.RelativeError,
                            change.Cosine,
                            change.Lost,
                            (double)shared.SavedBy(shared.With(best)) / Math.Max(1, total),
                            best.Joined.Blocks[^1].Block.Block.Output
                        )
                    );
                if (change is not null && work.MostLoss is { } most && !(change.Lost <= most))
                    reason = "more would lose more than the budget grants";
                else
                    shared.Apply(best);
            }
        }
        if (reason is null && options.Groups is null && shared.Merged < options.Most)
            reason = "no further blocks are alike";
        SharedModel.Apply(work.Model, shared.All, options.Rank, cancellation);
        // Channels of what a normalization made may lie in another order.
        foreach (var node in shared.All.Where(c => c.Blocks.Count > 1).SelectMany(c => c.Blocks).SelectMany(b => b.Block.Block.Nodes))
        foreach (var output in node.Output)
            work.Normalized.Remove(output);
        SharingReport.Note(work, shared, sets, curve, total, reason);
    }

    private static async Task<(ClusterMerge? Best, OutputChange? Change)> BestAsync(
        GraphWork work,
        SharedSets shared,
        IReadOnlyList<ClusterMerge> merges,
        int most,
        LayerSharingOptions options,
        CancellationToken cancellation
    )
    {
        (ClusterMerge? Best, OutputChange? Change) best = (null, null);
        foreach (var merge in merges.Take(most))
        {
            var trial = work.Model.Clone();
            SharedModel.Apply(trial, shared.With(merge), options.Rank, cancellation);
            if (await work.TryAsync(trial, cancellation, options.Samples) is not { } change)
                return (null, null);
            if (best.Change is null || change.RelativeError < best.Change.RelativeError)
                best = (merge, change);
        }
        return best;
    }

    private static async Task<(IReadOnlyList<IReadOnlyList<BlockValues>> Sets, string? Reason)> ReadAsync(
        GraphWork work,
        GraphFacts facts,
        IReadOnlyList<IReadOnlyList<RepeatedBlock>> found,
        IReadOnlyDictionary<string, double[]> squares,
        LayerSharingOptions options,
        CancellationToken cancellation
    )
    {
        if (found.Count == 0)
            return ([], "no two blocks of the main graph have matrices of the same operators and shapes");
        if (found.Sum(s => s.Sum(b => b.Elements)) * sizeof(float) > MostBytes)
            return ([], $"blocks that are alike hold more than {MostBytes >> 20} MB of weights");
        var (sets, infinite) = (new List<IReadOnlyList<BlockValues>>(), false);
        foreach (var set in found)
        {
            var read = new List<BlockValues>();
            foreach (var block in set)
            {
                var groups = options.Align ? UnitGroup.Of(block, facts.Groups) : [];
                if (await BlockValues.ReadAsync(work, block, groups, squares, cancellation) is { } values)
                    read.Add(values);
                else
                    infinite = true;
            }
            if (read.Count > 1)
                sets.Add(read);
        }
        return (sets, sets.Count == 0 && infinite ? "blocks that are alike hold NaN or infinity" : null);
    }
}
