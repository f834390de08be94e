using Serverless.Core.Techniques;

namespace Serverless.Core.Recipes;

/// <summary>The steps of a recipe as they run: implied ones added, each where it belongs, and only such as make sense one after another.</summary>
internal static class StepSequence
{
    /// <summary>The steps in the order in which they run.</summary>
    /// <param name="written">The steps as the recipe has them.</param>
    public static IReadOnlyList<RecipeStep> Of(IReadOnlyList<RecipeStep> written) =>
        [
            .. Technique
                .All.Where(t => t.IsImplied && !written.Any(s => s.Step == t.Step))
                .Select(t => RecipeStep.Of(new Setting(t, Activator.CreateInstance(t.OptionsType)!)))
                .Concat(written)
                .OrderBy(s => Place(s.Technique.Order)),
        ];

    /// <summary>Why the steps make no sense in this order: the step, and a sentence with the remedy; null where they do.</summary>
    /// <param name="steps">From <see cref="Of"/>.</param>
    public static (RecipeStep Step, string Why)? WhyNot(IReadOnlyList<RecipeStep> steps)
    {
        var traits = ModelTraits.None;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var step in steps)
        {
            var technique = step.Technique;
            if (technique.WhyNotOn(traits) is { } why)
                return (step, why);
            if (!seen.Add(step.Step) && !technique.Repeats)
                return (step, $"has two '{step.Step}' steps; give one");
            traits = technique.Leaves(traits);
        }
        return null;
    }

    private static int Place(StepOrder order) =>
        order switch
        {
            StepOrder.First => 0,
            StepOrder.AsWritten => 1,
            _ => 2,
        };
}
