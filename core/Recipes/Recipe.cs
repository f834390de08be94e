using System.Text.Json;
using Serverless.Core.Techniques;

namespace Serverless.Core.Recipes;

/// <summary>What to do with a model: steps in order, a budget, and rules for single layers.</summary>
/// <param name="Preset">The preset it came from, or null.</param>
/// <param name="Steps">Steps in order.</param>
/// <param name="Whole">What is done with the model as a whole.</param>
/// <param name="Budget">What the result may cost, or null for anything.</param>
/// <param name="Layers">Rules; the last that matches a layer and says something wins.</param>
public sealed record Recipe(
    string? Preset,
    IReadOnlyList<RecipeStep> Steps,
    ModelSteps Whole,
    RecipeBudget? Budget,
    IReadOnlyList<LayerRule> Layers
)
{
    /// <summary>What to do about a loss over the budget that compressing alone cannot mend.</summary>
    public RetrainOptions Retrain { get; init; } = new();

    /// <summary>How the result is compared with the original.</summary>
    public EvaluateOptions Evaluate { get; init; } = new();

    /// <summary>
    /// The recipe with the options decided that depend on this machine, in steps and rules (<see
    /// cref="LayerTechnique.Settled(object)"/>).
    /// </summary>
    public Recipe Settled() =>
        this with
        {
            Steps = [.. Steps.Select(s => s with { Options = Settled(s, null) })],
            Layers = [.. Layers.Select(r => r with { Overrides = r.Overrides.ToDictionary(o => o.Key, o => Settled(o.Key, o.Value)) })],
        };

    private JsonElement Settled(string step, JsonElement overrides)
    {
        if (Steps.FirstOrDefault(s => s.Step == step) is not { } named)
            return overrides;
        var settled = Settled(named, overrides);
        return JsonSerializer.SerializeToElement(overrides.EnumerateObject().ToDictionary(p => p.Name, p => settled.GetProperty(p.Name)));
    }

    private static JsonElement Settled(RecipeStep step, JsonElement? overrides)
    {
        var technique = LayerTechnique.All.First(t => t.Step == step.Step && t.Method == step.Method);
        var options = OptionBinder.Merge(technique.OptionsType, step.Options, overrides);
        return JsonSerializer.SerializeToElement(technique.Settled(options), technique.OptionsType, Json.Options);
    }
}

/// <summary>Steps that are not about one layer; one property each, null where the recipe does not name it.</summary>
public sealed record ModelSteps
{
    /// <summary>How the graph itself is tidied.</summary>
    public SimplifyOptions Simplify { get; init; } = new();

    /// <summary>Whether channels are equalized between layers; null for not.</summary>
    public Techniques.Quantization.EqualizationOptions? Equalize { get; init; }

    /// <summary>Whether activations are smoothed into the weights; null for not.</summary>
    public Techniques.Quantization.SmoothingOptions? Smooth { get; init; }

    /// <summary>Whether biases make up for what rounding shifts; null for where that is usual: behind integer kernels.</summary>
    public BiasCorrectionOptions? CorrectBias { get; init; }

    /// <summary>The steps: recipe key, property.</summary>
    public static IEnumerable<(string Key, System.Reflection.PropertyInfo Property)> All =>
        typeof(ModelSteps)
            .GetProperties(System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.Instance)
            .Select(p => (JsonNamingPolicy.CamelCase.ConvertName(p.Name), p));
}

/// <summary>
/// Bias correction (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", section
/// 4.2 and appendix D): biases take up what rounding shifts each channel's mean by.
/// </summary>
public sealed record BiasCorrectionOptions
{
    /// <summary>Whether it is done.</summary>
    [Techniques.Option(
        "Let biases make up for the shift that rounding gives each channel's mean, measured on data (default true; without this step only for static int8)."
    )]
    public bool Apply { get; init; } = true;

    /// <summary>Samples measured on.</summary>
    [Techniques.Option("Samples to measure the shift on, of those calibrated on (default 32).", Min = 1, Max = 10_000)]
    public int Samples { get; init; } = 32;
}

/// <summary>What to do about a loss over the budget: retraining is requested by an event, and may be waited for.</summary>
public sealed record RetrainOptions
{
    /// <summary>Hours to wait for the retrained weights.</summary>
    [Techniques.Option(
        "Hours to wait for retrained weights once they were requested (default 0: publish the best attempt at once).",
        Min = 0,
        Max = 720
    )]
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
/// <param name="MaxAccuracyLoss">Largest loss, a fraction: of accuracy when the data has labels, of top-1 agreement when it has none, of
/// cosine on synthetic inputs.</param>
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

    /// <summary>Compute what depends on constants alone.</summary>
    [Techniques.Option(
        "Compute expressions of constants in front of weights once, as weight normalization, transposed weights and fake "
            + "quantization are (default true)."
    )]
    public bool Constants { get; init; } = true;

    /// <summary>Fold BatchNormalization and constant factors and offsets into the Conv before them.</summary>
    [Techniques.Option(
        "Fold BatchNormalization, and factors and offsets that are constants, into the convolution before it (default true)."
    )]
    public bool BatchNorm { get; init; } = true;

    /// <summary>What becomes of inputs of the model that have an initializer.</summary>
    [Techniques.Option(
        "Inputs of the model that are initializers too, which a caller may override: keep (default: they and their weights "
            + "stay as they are) or constant (they are no inputs any more)."
    )]
    public InitializerInputs InitializerInputs { get; init; } = InitializerInputs.Keep;

    /// <summary>Write the hard swish in two operators.</summary>
    [Techniques.Option("Write x * clip(x + 3, 0, 6) / 6 as x * HardSigmoid(x) (default true).")]
    public bool HardSwish { get; init; } = true;
}

/// <summary>What becomes of inputs of the model that have an initializer as a default (ONNX IR, "Graphs").</summary>
public enum InitializerInputs
{
    /// <summary>A caller may go on to override them.</summary>
    Keep,

    /// <summary>They are constants, and no inputs.</summary>
    Constant,
}

/// <summary>What becomes of names inside the graph.</summary>
public enum NameStyle
{
    /// <summary>A few characters each, where that saves bytes.</summary>
    Short,

    /// <summary>As they were.</summary>
    Keep,
}
