using Serverless.Core.Statistics;
using Serverless.Core.Techniques;

namespace Serverless.Core.Recipes;

/// <summary>
/// The steps of a recipe as they run: implied ones added, each where it belongs, and only such as make sense one after another.
/// </summary>
public static class StepSequence
{
    /// <summary>The steps in the order in which they run.</summary>
    /// <param name="written">The steps as the recipe has them.</param>
    public static IReadOnlyList<RecipeStep> Of(IReadOnlyList<RecipeStep> written) =>
        [
            .. Technique
                .All.Where(t => t.IsImplied && !written.Any(s => s.Step == t.Step))
                .Select(t => RecipeStep.Of(new Setting(t, Activator.CreateInstance(t.OptionsType)!)))
                .Concat(written.SelectMany(Expanded))
                .OrderBy(s => Place(s.Technique.Order)),
        ];

    private static IEnumerable<RecipeStep> Expanded(RecipeStep step) =>
        step.Technique.Expand(step.Typed) is { Count: > 1 } parts
            ? parts.Select(o => RecipeStep.Of(new Setting(step.Technique, o)) with { Placement = step.Placement })
            : [step];

    /// <summary>Why the steps make no sense in this order: the step, and a sentence with the remedy; null where they do.</summary>
    /// <param name="steps">From <see cref="Of"/>.</param>
    internal static (RecipeStep Step, string Why)? WhyNot(IReadOnlyList<RecipeStep> steps)
    {
        var traits = ModelTraits.None;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var step in steps)
        {
            var technique = step.Technique;
            if (technique.WhyNotOn(traits) is { } why)
                return (step, why);
            // Methods of a step that repeat stand beside one that does not.
            if (!technique.Repeats && !seen.Add(step.Step))
                return (step, $"has two '{step.Step}' steps; give one");
            traits = technique.Leaves(traits);
        }
        return null;
    }

    /// <summary>Properties of the weights after some steps.</summary>
    public static ModelTraits Traits(IEnumerable<RecipeStep> steps) =>
        steps.Aggregate(ModelTraits.None, (traits, s) => s.Technique.Leaves(traits));

    /// <summary>
    /// The layer steps that follow one another from a step on, carried out as one chain: in one place, none behind a step that changes
    /// which layers there are, and none that observes inputs as the one before it did,
    /// or outputs at all.
    /// </summary>
    /// <param name="steps">The steps of a recipe.</param>
    /// <param name="from">The first.</param>
    public static IReadOnlyList<RecipeStep> Chain(IReadOnlyList<RecipeStep> steps, int from)
    {
        var chain = new List<RecipeStep>();
        foreach (var step in steps.Skip(from))
        {
            if (step.Technique is not LayerTechnique technique || chain.Count > 0 && chain[0].Placement != step.Placement)
                break;
            // What repeats the step before it and observes inputs observes those that the step before it left.
            if (chain is [.., var last] && last.Technique == technique && technique.Needs(step.Typed) != StatisticKinds.None)
                break;
            if (chain.Count > 0 && technique.ObservesOutputs)
                break;
            chain.Add(step);
            if (technique.ChangesLayers)
                break;
        }
        return chain;
    }

    /// <summary>
    /// The stages in front of the attempts: a step on the model, or a chain of layer steps whose results the model takes on before the
    /// next. The
    /// last chain is none of them, unless it changes which layers there are, or a step follows it: it is what attempts are made of.
    /// </summary>
    /// <param name="steps">The steps of a recipe.</param>
    public static IReadOnlyList<RunStage> Stages(IReadOnlyList<RecipeStep> steps)
    {
        var stages = new List<RunStage>();
        for (var i = 0; i < steps.Count && steps[i].Technique.Order != StepOrder.Last; i += stages[^1].Steps)
        {
            var chain = Chain(steps, i);
            stages.Add(new RunStage(Math.Max(1, chain.Count), chain.Count > 0, steps[i].Placement));
        }
        var done = stages.Sum(s => s.Steps);
        if (stages is [.., { Layers: true }] && steps[done - 1].Technique is LayerTechnique { ChangesLayers: false })
            stages.RemoveAt(stages.Count - 1);
        return stages;
    }

    /// <summary>Whether attempts are made of the chain at a stage: no other follows.</summary>
    /// <param name="steps">The steps of a recipe.</param>
    /// <param name="stage">Steps that were carried out.</param>
    public static bool IsLast(IReadOnlyList<RecipeStep> steps, int stage) => Stages(steps).Sum(s => s.Steps) == stage;

    /// <summary>Whether no step on layers follows the chain at a stage.</summary>
    /// <param name="steps">The steps of a recipe.</param>
    /// <param name="stage">Steps that were carried out.</param>
    public static bool LayersEndWithin(IReadOnlyList<RecipeStep> steps, int stage) =>
        !steps.Skip(stage + Chain(steps, stage).Count).Any(s => s.Technique is LayerTechnique);

    private static int Place(StepOrder order) =>
        order switch
        {
            StepOrder.First => 0,
            StepOrder.AsWritten => 1,
            _ => 2,
        };
}

/// <summary>Steps of a recipe that are carried out together.</summary>
/// <param name="Steps">How many.</param>
/// <param name="Layers">Whether they work on layers; else one works on the model as a whole.</param>
/// <param name="Placement">Where they run.</param>
public sealed record RunStage(int Steps, bool Layers, StepPlacement Placement);
