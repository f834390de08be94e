using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>
/// Takes whole blocks of a model away: what takes a block's output takes its input instead. Methods differ in the order of the blocks.
/// </summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Dropping<TOptions> : GraphTechnique<TOptions>
    where TOptions : BlockOptions, new()
{
    /// <summary>Field of the report about all blocks.</summary>
    public const string Field = "blocks";

    /// <summary>Field of the report with a row for each block.</summary>
    public const string ListField = "blockList";

    /// <summary>Field of the report with the outputs' change for each number of blocks.</summary>
    public const string CurveField = "blockCurve";

    /// <inheritdoc/>
    public override string Step => "drop";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'drop' takes blocks away before weights are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    protected override string? WhyInvalid(TOptions options) =>
        options is { Blocks: not null, Share: not null } ? "'drop' takes 'blocks' or 'share', not both" : null;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, TOptions options) =>
        RankedBlock.Of(GraphBlocks.Of(new GraphFacts(model), default), options.Of, new WeightSizes(model, null)).Count > 0
            ? GraphNeeds.ToTry(options.Samples)
            : GraphNeeds.None;

    /// <summary>Chooses blocks.</summary>
    /// <param name="work">The model, unchanged.</param>
    /// <param name="blocks">Blocks with their influence, those of least influence first.</param>
    /// <param name="amount">How many may go.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>What is to go, in order; what that makes of the outputs; and why it is less than asked for.</returns>
    internal abstract Task<BlockSelection> ChooseAsync(
        GraphWork work,
        IReadOnlyList<RankedBlock> blocks,
        BlockAmount amount,
        CancellationToken cancellation
    );

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, TOptions options, CancellationToken cancellation)
    {
        var found = GraphBlocks.Of(new GraphFacts(work.Model), cancellation);
        var selection = new BlockSelection([], [], WhyNone(found, options));
        IReadOnlyList<RankedBlock> blocks = [];
        var sizes = new WeightSizes(work.Model, null);
        if (RankedBlock.Of(found, options.Of, sizes).Count > 0)
        {
            work.RunsModel();
            var trials = work.Trials!;
            sizes = new WeightSizes(work.Model, work.Limits.CountAsOf(work.Model), work.WhySkipped);
            blocks = await RankAsync(trials, RankedBlock.Of(found, options.Of, sizes), cancellation);
            selection =
                trials.Samples == 0 ? new BlockSelection([], [], "the model takes no samples that blocks could be ranked on")
                : blocks.All(b => b.Held is not null) ? new BlockSelection([], [], "the recipe's rules skip a weight of each block")
                : await ChooseAsync(
                    work,
                    [.. blocks.Where(b => b is { Influence: not null, Held: null })],
                    new BlockAmount(options, sizes),
                    cancellation
                );
            BlockRemoval.Remove(work.Model, [.. selection.Chosen.Select(b => b.Block)], cancellation);
            ForgetDistributions(work, selection.Chosen);
        }
        Note(work, found, blocks, selection, sizes);
    }

    private static async Task<IReadOnlyList<RankedBlock>> RankAsync(
        ModelTrials trials,
        IReadOnlyList<RankedBlock> blocks,
        CancellationToken cancellation
    )
    {
        if (trials.Samples == 0)
            return blocks;
        var influences = await BlockInfluence.OfAsync(trials, [.. blocks.Select(b => b.Block)], cancellation);
        return
        [
            .. blocks
                .Select((b, i) => b with { Influence = influences[i] })
                .OrderBy(b => b.CarriesInput ? 0 : 1)
                .ThenBy(b => b.Influence ?? double.MaxValue),
        ];
    }

    private static string? WhyNone(GraphBlocks found, TOptions options) =>
        found.All.Count == 0
            ? "no part of the main graph with a layer in it puts out what it takes, in type and shape; "
                + "blocks inside subgraphs are not looked for"
            : $"none of the model's blocks with weights is of the kind '{options.Of.ToString().ToLowerInvariant()}'";

    // Behind a block that is gone, values are distributed otherwise than the normalizations say.
    private static void ForgetDistributions(GraphWork work, IReadOnlyList<RankedBlock> chosen)
    {
        if (work.Normalized.Count == 0 || chosen.Count == 0)
            return;
        var index = new GraphFacts(work.Model).Main.Index;
        var (open, changed) = (new Stack<string>(chosen.Select(b => b.Block.Input)), new HashSet<string>(StringComparer.Ordinal));
        while (open.TryPop(out var value))
            foreach (var output in index.OwnConsumers(value).SelectMany(n => n.Output))
                if (changed.Add(output))
                    open.Push(output);
        foreach (var value in work.Normalized.Keys.Where(v => changed.Contains(v) || index.Producer(v) is null).ToList())
            work.Normalized.Remove(value);
    }

    private static void Note(
        GraphWork work,
        GraphBlocks found,
        IReadOnlyList<RankedBlock> blocks,
        BlockSelection selection,
        WeightSizes sizes
    )
    {
        var parameters = selection.Chosen.Sum(b => b.Parameters);
        if (selection.Reason is { } reason)
            work.Warnings.Add($"'drop' took {selection.Chosen.Count} {(selection.Chosen.Count == 1 ? "block" : "blocks")} away: {reason}.");
        work.Note(
            Field,
            new BlocksRemoved(
                selection.Chosen.Count,
                blocks.Count,
                parameters,
                (double)parameters / Math.Max(1, sizes.Parameters),
                (double)MultiplyAccumulates.Total(selection.Chosen.Select(b => b.MultiplyAccumulates)) / Math.Max(1, sizes.Macs),
                work.Trials?.Samples ?? 0,
                selection.Reason
            )
        );
        var chosen = selection.Chosen.ToHashSet();
        NotedBlock[] rows =
        [
            .. selection.Chosen.Concat(blocks.Where(b => !chosen.Contains(b))).Select(b => Row(b, chosen.Contains(b))),
            .. found.Refused.Select(r => new NotedBlock(r.Input, r.Output, "residual", null, 0, 0, false, r.Reason)),
        ];
        if (rows.Length > 0)
            work.Note(ListField, rows);
        if (selection.Curve.Count > 0)
            work.Note(CurveField, selection.Curve);
    }

    private static NotedBlock Row(RankedBlock ranked, bool isRemoved)
    {
        var block = ranked.Block;
        return new NotedBlock(
            block.Input,
            block.Output,
            (block.Role == BlockRole.Other ? block.Kind.ToString() : block.Role.ToString()).ToLowerInvariant(),
            ranked.Influence,
            ranked.Parameters,
            ranked.MultiplyAccumulates,
            isRemoved,
            ranked.Held ?? (ranked.Influence is null ? "its input or output is not finite, or no sample reached it" : null)
        )
        {
            Parts = isRemoved
                ? new NotedParts([.. block.Nodes.Select(n => n.Name.Length > 0 ? n.Name : $"{n.OpType}: {n.Output[0]}")], block.Constants)
                : null,
        };
    }
}
