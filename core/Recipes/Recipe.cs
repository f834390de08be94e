using System.Text.Json;

namespace Serverless.Core.Recipes;

/// <summary>What to do with a model: steps in order, a budget, and rules for single layers.</summary>
/// <param name="Preset">The preset it came from, or null.</param>
/// <param name="Steps">Steps in order.</param>
/// <param name="Simplify">How the graph itself is tidied.</param>
/// <param name="Budget">What the result may cost, or null for anything.</param>
/// <param name="Layers">Rules; the last that matches a layer and says something wins.</param>
public sealed record Recipe(
    string? Preset, IReadOnlyList<RecipeStep> Steps, SimplifyOptions Simplify, RecipeBudget? Budget, IReadOnlyList<LayerRule> Layers)
{
    /// <summary>What to do about a loss over the budget that compressing alone cannot mend.</summary>
    public RetrainOptions Retrain { get; init; } = new();
}

/// <summary>What to do about a loss over the budget: retraining is requested by an event, and may be waited for.</summary>
public sealed record RetrainOptions
{
    /// <summary>Hours to wait for the retrained weights.</summary>
    [Techniques.Option("Hours to wait for retrained weights once they were requested (default 0: publish the best attempt at once).", Min = 0, Max = 720)]
    public double Wait { get; init; }
}

/// <summary>One step: a technique and its options, every one given.</summary>
/// <param name="Step">The technique's step: <c>quantize</c>.</param>
/// <param name="Method">The technique's method: <c>rtn</c>.</param>
/// <param name="Options">The technique's options record as JSON.</param>
public sealed record RecipeStep(string Step, string Method, JsonElement Options)
{
    /// <summary>Where it runs.</summary>
    public StepPlacement Placement { get; init; } = new();
}

/// <summary>What the result may cost.</summary>
/// <param name="MaxAccuracyLoss">Largest loss, a fraction: of accuracy when the data has labels, of top-1 agreement when it has none, of cosine on synthetic inputs.</param>
/// <param name="MaxSizeRatio">Largest size after over size before.</param>
public sealed record RecipeBudget(double? MaxAccuracyLoss, double? MaxSizeRatio);

/// <summary>A rule for the layers whose weight or node name matches.</summary>
/// <param name="Match">A glob: <c>*</c> any characters, <c>?</c> one.</param>
/// <param name="Skip">Leave the layer alone.</param>
/// <param name="Overrides">Step name → options that replace the step's, as JSON.</param>
public sealed record LayerRule(string Match, bool Skip, IReadOnlyDictionary<string, JsonElement> Overrides);

/// <summary>How the graph around the weights is tidied; all of it leaves the outputs as they were.</summary>
public sealed record SimplifyOptions
{
    /// <summary>What becomes of names inside the graph; inputs and outputs keep theirs.</summary>
    [Techniques.Option("Names inside the graph: short (default) or keep. Inputs, outputs and weights' reports keep theirs.")]
    public NameStyle Names { get; init; } = NameStyle.Short;

    /// <summary>Fold BatchNormalization and constant factors and offsets into the Conv before them.</summary>
    [Techniques.Option("Fold BatchNormalization, and factors and offsets that are constants, into the convolution before it (default true).")]
    public bool BatchNorm { get; init; } = true;

    /// <summary>Write the hard swish in two operators.</summary>
    [Techniques.Option("Write x * clip(x + 3, 0, 6) / 6 as x * HardSigmoid(x) (default true).")]
    public bool HardSwish { get; init; } = true;
}

/// <summary>What becomes of names inside the graph.</summary>
public enum NameStyle
{
    /// <summary>A few characters each, where that saves bytes.</summary>
    Short,

    /// <summary>As they were.</summary>
    Keep,
}
