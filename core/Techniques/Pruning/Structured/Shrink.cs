using System.Globalization;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Structured pruning: whole channels, hidden units and heads are cut out of all matrices that make or take them, and the layers behind are
/// refitted. Which dimensions go together, and which may go, is known from the graph (<see cref="GraphFacts"/>); how many of each group,
/// from what they cost the outputs (<see cref="GroupSearch"/>). A method ranks the units of a group.
/// </summary>
public abstract class Shrink : GraphTechnique<ShrinkOptions>
{
    /// <summary>Field of the report; that of a second step has a 2 behind it, and so on.</summary>
    public const string Field = "structure";

    // Counts are whole numbers, shares of them are not.
    private const double Near = 0.01;

    private const string NoEffect = "no output of a sample changes without it";

    private const string Untaken = "no sample takes the branch that it is in";

    /// <inheritdoc/>
    public sealed override string Step => "shrink";

    /// <inheritdoc/>
    public sealed override bool Repeats => true;

    /// <inheritdoc/>
    public sealed override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'shrink' cuts weights before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "'shrink' refits the weights that 'prune' set to zero: put it in front of 'prune'"
            : null;
    }

    /// <summary>Whether the method ranks units by what layers take.</summary>
    private protected virtual bool Observes => false;

    /// <summary>The order in which the units of a group go.</summary>
    /// <param name="group">The group.</param>
    /// <param name="facts">The model, and what its layers take.</param>
    /// <param name="most">Units that may go.</param>
    /// <param name="cancellation">Cancels the work.</param>
    private protected abstract Task<UnitOrder> OrderAsync(PrunableGroup group, UnitFacts facts, int most, CancellationToken cancellation);

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, ShrinkOptions options) =>
        GraphNeeds.ToTry(options.Samples);

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, ShrinkOptions options, CancellationToken cancellation)
    {
        var model = new PrunableModel(work.Model, work.ReadAsync);
        var field = work.FreshField(Field);
        var (groups, left) = PrunableGroup.Of(model, options.Of, work.WhySkipped);
        if (groups.Count > 0)
        {
            work.RunsModel();
            var untaken = await UntakenAsync(work, model, groups, cancellation);
            groups = [.. groups.Except(untaken)];
            left = [.. left, .. untaken.Select(g => new GroupLeft(g.Name, g.Group.Units, Untaken))];
        }
        if (groups.Count == 0)
        {
            var largest = left.MaxBy(l => l.Units) is { } l ? $", as that of '{l.Name}': {l.Reason}" : "";
            var why = model.Facts.Groups.WhyNone ?? $"no group of units may be cut{largest}";
            Note(work, field, new ShrinkErrors(null, null, null, why), [], left, []);
            return;
        }
        var watched = model.Layers.Where(l => groups.Any(g => g.Consumers.Any(c => c.Layer.Tensor == l.Tensor))).ToList();
        var observes = work.Trials is { Samples: > 0 } && (Observes || options.Refit);
        using var observed = observes ? await Observed.OfAsync(work.Trials!, watched, options.Refit, options.Damping, cancellation) : null;
        var facts = new UnitFacts(model, observed, work.Normalized);
        var orders = new UnitOrder[groups.Count];
        await Parallel.ForAsync(
            0,
            groups.Count,
            new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount },
            async (i, token) => orders[i] = await OrderAsync(groups[i], facts, GroupLevels.Most(groups[i].Group.Units, options), token)
        );
        var cut = new GroupCut(work, facts, groups, orders);
        var choice = await new GroupSearch(work, facts, groups, orders, options).ChooseAsync(cut, cancellation);
        var counts = choice.Counts;
        var shrunk = await cut.CutAsync(counts, options.Refit, cancellation);
        var kept = groups
            .Select((g, i) => new GroupShrunk(g.Name, g.Sort, g.Group.Units, g.Group.Units - counts[i]))
            .Where((_, i) => !choice.Unreached.Contains(i));
        var unreached = choice.Unreached.Select(i => new GroupLeft(groups[i].Name, groups[i].Group.Units, NoEffect));
        Note(
            work,
            field,
            shrunk.Errors with
            {
                Note = choice.Missed ?? MissedInBranches(work, choice, shrunk.Model),
            },
            [.. kept],
            [.. left, .. unreached],
            choice.Curve
        );
        if (choice.Latency is { } latency)
            work.Note($"{field}Latency", latency);
        Take(work, model, cut.Units(counts), shrunk.Model);
    }

    // What a weight of a branch saves counts where the branch is the dearest of its If, before and after.
    private static string? MissedInBranches(GraphWork work, GroupChoice choice, CutModel shrunk)
    {
        if (choice.MostMacs is not { } most)
            return null;
        long Count(ModelProto model) => MultiplyAccumulates.Total(work.Limits.CountAsOf(model).Values);
        var left = (double)Count(shrunk.Model) / Math.Max(1, Count(work.Model));
        return left <= most + Near
            ? null
            : string.Create(
                CultureInfo.InvariantCulture,
                $"{100 * left:0.#} % of the multiply-accumulates are left, not {100 * most:0.#} %: of an If the branch that takes most counts"
            );
    }

    // Those that all samples pass by.
    private static async Task<IReadOnlyList<PrunableGroup>> UntakenAsync(
        GraphWork work,
        PrunableModel model,
        IReadOnlyList<PrunableGroup> groups,
        CancellationToken cancellation
    )
    {
        if (work.Trials is not { Samples: > 0 } trials)
            return [];
        List<PrunableGroup> inBranches =
        [
            .. groups.Where(g => g.Group.Uses.Count > 0 && g.Group.Uses.All(u => u.Scope.Parent is not null)),
        ];
        if (inBranches.Count == 0)
            return [];
        var untaken = await UntakenBranches.OfAsync(trials, cancellation);
        var scopes = model.Facts.Roots[0].All().Where((_, place) => untaken.Contains(place)).ToHashSet();
        return [.. inBranches.Where(g => g.Group.Uses.All(u => scopes.Contains(u.Scope)))];
    }

    private static void Note(
        GraphWork work,
        string field,
        ShrinkErrors errors,
        IReadOnlyList<GroupShrunk> groups,
        IReadOnlyList<GroupLeft> left,
        IReadOnlyList<ShrinkPoint> curve
    )
    {
        work.Note(field, errors);
        if (errors.Note is { } note)
            work.Warnings.Add($"'shrink': {note}.");
        work.Note($"{field}Groups", groups);
        work.Note($"{field}Left", left);
        work.Note($"{field}Curve", curve);
    }

    private static void Take(GraphWork work, PrunableModel model, IReadOnlyDictionary<int, IReadOnlyList<int>> removed, CutModel shrunk)
    {
        foreach (var weight in Weight.Of(model.Model, model.Facts.Roots))
            if (shrunk.Cuts.Contains(model.PlaceOf(weight.Tensor)))
                work.Changed.Add(new ChangedLayer(weight.Name, weight.Reference.Length));
        foreach (var (number, units) in removed)
        {
            var group = model.Groups[number];
            foreach (var axis in group.Values)
                if (work.Normalized.Remove(axis.Value, out var known) && model.Facts.Groups.Whole(axis) == group)
                    work.Normalized[axis.Value] = known.Of([.. Enumerable.Range(0, group.Units).Except(units)]);
        }
        work.Model.Graph = shrunk.Model.Graph;
    }

    /// <summary>The order by the L2 norm of the units' weights.</summary>
    private protected static async Task<UnitOrder> ByWeightsAsync(PrunableGroup group, UnitFacts facts, CancellationToken cancellation) =>
        UnitOrder.ByScore(await UnitNorms.OfAsync(group, facts.Model, w => (double)w * w, cancellation));
}
