using Serverless.Core.Recipes;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Steps on the model behind the last chain, which work on coded layers: part of every attempt.</summary>
internal static class FinishingSteps
{
    /// <summary>
    /// Those that the steps of the chain ask for, then those of the recipe; a recipe's own step takes the place of one asked for.
    /// </summary>
    /// <param name="recipe">The recipe.</param>
    /// <param name="tasks">The planned layers.</param>
    public static IReadOnlyList<RecipeStep> Of(Recipe recipe, IReadOnlyList<LayerTask> tasks)
    {
        var written = recipe.Steps.Where(s => s.Technique is GraphTechnique { Order: StepOrder.Last }).ToList();
        var behind = tasks
            .Where(t => t.Step is not null)
            .GroupBy(t => (t.Step!.Step, t.Step.Method, Options: t.Step.Options.GetRawText()))
            .SelectMany(g => g.First().Step!.Layer.Behind([.. g.Select(t => t.Plan!)], g.First().Step!.Typed))
            .Select(RecipeStep.Of)
            .DistinctBy(s => (s.Step, s.Method))
            .Where(s => !written.Any(w => w.Step == s.Step));
        return [.. behind, .. written.Where(s => !((GraphTechnique)s.Technique).IsOff(s.Typed))];
    }
}
