using System.IO.Enumeration;
using System.Text.Json;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>What is done with each weight: the steps of a chain that apply to it, and why not where none does.</summary>
public static class LayerTasks
{
    /// <summary>The tasks of a model under a recipe: those that compress first, largest first, then the rest.</summary>
    /// <param name="model">The model, indexed.</param>
    /// <param name="recipe">The recipe.</param>
    /// <param name="stage">Steps of it that were carried out: the chain of layer steps that follows is planned.</param>
    /// <param name="folder">Store folder that file names are relative to.</param>
    /// <param name="facts">What earlier steps have done.</param>
    internal static IReadOnlyList<LayerTask> Of(ModelProto model, Recipe recipe, int stage, string folder, StateFacts? facts = null)
    {
        var weights = Weight.Of(model);
        var chain = StepSequence.Chain(recipe.Steps, stage);
        var masked = StepSequence.Traits(recipe.Steps.Take(stage)).HasFlag(ModelTraits.Masked);
        var stored = StepSequence.IsLast(recipe.Steps, stage);
        var tasks = Protect([.. weights.Select(Task)], weights)
            .OrderBy(t => t.Step is null)
            .ThenByDescending(t => t.Step is null ? 0 : t.Data.Length)
            .ThenBy(t => t.Name, StringComparer.Ordinal);
        return [.. tasks.Select((t, i) => t with { Index = i })];

        // Zeros of an earlier chain are left out of the file where no step on layers follows, too.
        LayerTask Task(Weight weight)
        {
            var pruned = facts?.Origins.GetValueOrDefault(weight.Name)?.Nonzero < weight.Reference.Elements;
            var own = chain.Count == 0 && stored && masked && pruned ? Unchanged : chain;
            return Of(weight, recipe, own, folder) with
            {
                Masked = masked,
                StoredOpset = stored ? OpsetRaise.Reachable(weight.Scope) : null,
                IsEntropyCoded = stored && recipe.Store == Store.Small && RansNodes.WhyNot(weight.Scope) is null,
            };
        }
    }

    private static readonly IReadOnlyList<RecipeStep> Unchanged = [RecipeStep.Of(new Setting(new Unchanged(), new UnchangedOptions()))];

    // Small layers weigh little and often count most: a technique may ask that a share of the weights be treated gently.
    private static List<LayerTask> Protect(List<LayerTask> tasks, IReadOnlyList<Weight> weights)
    {
        var total = (double)tasks.Where(t => t.Step is not null).Sum(t => t.Data.Length);
        long taken = 0;
        foreach (
            var i in Enumerable
                .Range(0, tasks.Count)
                .Where(i => tasks[i].Step is not null)
                .OrderBy(i => tasks[i].Data.Length)
                .ThenBy(i => tasks[i].Name, StringComparer.Ordinal)
                .ToList()
        )
        {
            var (technique, options) = (tasks[i].Step!.Layer, tasks[i].Step!.Typed);
            taken += tasks[i].Data.Length;
            if (taken > technique.Protect(options) * total)
                break;
            if (technique.Ladder(options).Gentler is not { } gentler)
                continue;
            var next = WithOptions(tasks[i], weights[i], gentler);
            if (next.Step is not null)
                tasks[i] = next;
        }
        return tasks;
    }

    // One byte holds the index of a choice.
    private const int MostChoices = 256;

    /// <summary>The reason where no chain is left.</summary>
    internal const string NoStep = "no step of the recipe applies";

    /// <summary>How the reason begins why a weight stays that compressing would not make smaller.</summary>
    internal const string TooSmall = "too small";

    /// <summary>Numbers of layers and bytes of a plan.</summary>
    public static Planned Summary(IReadOnlyList<LayerTask> tasks) =>
        new(
            tasks.Count(t => t.Step is not null),
            tasks.Count,
            tasks.Where(t => t.Step is not null).Sum(t => t.Data.Length),
            tasks.FirstOrDefault(t => t.Step is not null)?.Step!.Placement ?? new StepPlacement()
        );

    /// <summary>Re-plans the last step of a layer's chain; without a step where it makes nothing of the layer, which says why.</summary>
    internal static LayerTask WithOptions(LayerTask task, Weight weight, Setting setting, StepPlacement? placement = null)
    {
        var (technique, options) = ((LayerTechnique)setting.Technique, setting.Options);
        if (technique.WhyNot(weight, task.Shape, options) is { } why)
            return Left(why);
        var plan = technique.Plan(weight, task.Shape, task.Store, options);
        if (weight.Scope.Opset < Form.All[plan.Form].OldestOpset)
            return Left($"ONNX Runtime decodes nothing in operator set {weight.Scope.Opset}; convert the model to 13 or later");
        if (plan.BytesAfter >= task.Data.Length && !technique.LeavesDense)
            return Left($"{TooSmall} to gain: {task.Data.Length} bytes, {plan.BytesAfter} after");
        var step = RecipeStep.Of(setting) with { Placement = task.Step?.Placement ?? placement ?? new StepPlacement() };
        return task with { Step = step, Plan = plan, SkipReason = null };

        LayerTask Left(string reason) => task with { Step = null, Plan = null, SkipReason = reason };
    }

    private static LayerTask Of(Weight weight, Recipe recipe, IReadOnlyList<RecipeStep> chain, string folder)
    {
        var reference = weight.Reference;
        var data = new WeightData(
            reference.File is { } f ? ModelWriter.Resolve(folder, f) : "",
            null,
            reference.Offset,
            reference.Length,
            reference.DataType
        );
        var shape = weight.Uses.Count > 0 ? LayerShape.Of(weight) : new LayerShape(1, reference.Elements, 1);
        var op = string.Join("+", weight.Uses.Select(u => u.Op).Distinct());
        var task = new LayerTask(0, weight.Name, NodeOf(weight), op, reference.Dims, data, shape, null, null, weight.SkipReason)
        {
            Store = recipe.Store,
        };
        if (weight.SkipReason is not null)
            return task;
        if (LayerShape.WhyUnfit(weight) is { } unfit)
            return task with { SkipReason = unfit };
        var rules = recipe.Layers.Where(r => Matches(r.Match, task.Name, task.Node)).ToList();
        if (WhySkipped(rules) is { } skipped)
            return task with { SkipReason = skipped };
        if (chain.Count == 0)
            return task with { SkipReason = NoStep };
        // Each step that applies, with its settings where they are open: the chains are all combinations.
        IReadOnlyList<LayerChoice> chains = [new([], 1, 1)];
        var open = false;
        var notApplied = new List<NotAppliedStep>();
        foreach (var step in chain)
        {
            var ladder = step.Layer.Ladder(OptionsOf(step, rules));
            var rungs = ladder.IsOpen ? ladder.Rungs : [new Rung(new Setting(step.Layer, OptionsOf(step, rules)), 1)];
            var planned = rungs.Select(r => (r.Level, Task: WithOptions(task, weight, r.Setting, step.Placement))).ToList();
            var made = planned.Where(p => p.Task.Step is not null).ToList();
            if (made.Count == 0)
            {
                notApplied.Add(new NotAppliedStep(step.Label, planned[0].Task.SkipReason!));
                continue;
            }
            open |= ladder.IsOpen;
            var level = ladder.IsOpen ? ladder.Reference : 1;
            chains =
            [
                .. chains.SelectMany(c =>
                    made.Select(m => new LayerChoice(
                        [.. c.Chain, new PlannedStep(m.Task.Step!, m.Task.Plan!)],
                        c.Level * m.Level,
                        c.Reference * level
                    ))
                ),
            ];
        }
        if (chains[0].Chain.Count == 0)
            return task with { SkipReason = notApplied[0].Reason, NotApplied = notApplied };
        if (chains.Count > MostChoices)
            throw new BadInputException(
                $"{task.Name}: {chains.Count} combinations of settings are open; give all steps but one of the chain a setting."
            );
        chains = [.. chains.OrderBy(c => c.Level)];
        return chains[^1].Of(task) with { SkipReason = null, Choices = open ? chains : [], NotApplied = notApplied };
    }

    private static object OptionsOf(RecipeStep step, IReadOnlyList<LayerRule> rules) =>
        rules
            .Select(r => r.Overrides.GetValueOrDefault(step.Step))
            .Where(o => o.ValueKind == JsonValueKind.Object)
            .Aggregate(
                step.Typed,
                (typed, o) => OptionBinder.Merge(step.Technique.OptionsType, RecipeStep.Of(new Setting(step.Technique, typed)).Options, o)
            );

    /// <summary>Rules of a recipe that match none of some layers.</summary>
    /// <param name="recipe">The recipe.</param>
    /// <param name="layers">Names of the layers' weights, and of the nodes that take them.</param>
    public static IReadOnlyList<string> Unmatched(Recipe recipe, IReadOnlyList<(string Name, string? Node)> layers) =>
        [.. recipe.Layers.Select(r => r.Match).Where(m => !layers.Any(l => Matches(m, l.Name, l.Node))).Distinct()];

    /// <summary>Why a recipe's rules leave a weight alone; null where they do not.</summary>
    public static string? WhySkipped(Recipe recipe, Weight weight) =>
        WhySkipped([.. recipe.Layers.Where(r => Matches(r.Match, weight.Name, NodeOf(weight)))]);

    private static string? WhySkipped(List<LayerRule> rules) =>
        rules is [.., { Skip: true } last] ? $"skipped by the recipe ('{last.Match}')" : null;

    private static string? NodeOf(Weight weight) =>
        weight.Uses is not [var use, ..] ? null
        : use.Node.Name.Length > 0 ? use.Node.Name
        : use.Node.Output[0];

    private static bool Matches(string glob, string name, string? node) =>
        FileSystemName.MatchesSimpleExpression(glob, name, ignoreCase: false)
        || (node is not null && FileSystemName.MatchesSimpleExpression(glob, node, ignoreCase: false));
}
