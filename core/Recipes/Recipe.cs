using System.ComponentModel.DataAnnotations;
using System.Text.Json;
using System.Text.Json.Serialization;
using Serverless.Core.Forms;
using Serverless.Core.Techniques;

namespace Serverless.Core.Recipes;

/// <summary>What to do with a model: steps in order, a budget, and rules for single layers.</summary>
/// <param name="Preset">The preset it came from, or null.</param>
/// <param name="Steps">Steps in order.</param>
/// <param name="Budget">What the result may cost, or null for anything.</param>
/// <param name="Layers">Rules; the last that matches a layer and says something wins.</param>
public sealed record Recipe(string? Preset, IReadOnlyList<RecipeStep> Steps, RecipeBudget? Budget, IReadOnlyList<LayerRule> Layers)
{
    /// <summary>What the forms of layers are chosen by.</summary>
    public Store Store { get; init; } = Store.Balanced;

    /// <summary>
    /// Seconds that decoding may take while the result is loaded, with <see cref="Store.Small"/>: above 0; null for 1, and less where there
    /// is little to decode.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? LoadSeconds { get; init; }

    /// <summary>What to do about a loss over the budget that compressing alone cannot mend.</summary>
    public RetrainOptions Retrain { get; init; } = new();

    /// <summary>How the result is compared with the original.</summary>
    public EvaluateOptions Evaluate { get; init; } = new();

    /// <summary>
    /// The recipe with the options decided that depend on this machine, in steps and rules (<see
    /// cref="Technique.Settled"/>).
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
        var technique = step.Technique;
        var options = OptionBinder.Merge(technique.OptionsType, step.Options, overrides);
        return JsonSerializer.SerializeToElement(technique.Settled(options), technique.OptionsType, Json.Options);
    }

    /// <summary>The options of the first step that has such ones, or null.</summary>
    /// <typeparam name="TOptions">An options record.</typeparam>
    public TOptions? Find<TOptions>()
        where TOptions : class =>
        Steps.FirstOrDefault(s => s.Technique.OptionsType == typeof(TOptions))?.Options.Deserialize<TOptions>(Json.Options);
}

/// <summary>What to do about a loss over the budget: retraining is requested by an event, and may be waited for.</summary>
public sealed record RetrainOptions
{
    /// <summary>Hours to wait for retrained weights once they were requested (default 0: publish the best attempt at once).</summary>
    [Range(0.0, 720)]
    public double Wait { get; init; }
}

/// <summary>One step: a technique and its options, every one given.</summary>
/// <param name="Step">The technique's step: <c>quantize</c>.</param>
/// <param name="Method">The technique's method: <c>rtn</c>; empty where the step has one alone.</param>
/// <param name="Options">The technique's options record as JSON.</param>
public sealed record RecipeStep(string Step, string Method, JsonElement Options)
{
    /// <summary>Where it runs.</summary>
    public StepPlacement Placement { get; init; } = new();

    /// <summary>How reports name it: <c>quantize: rtn</c>.</summary>
    internal string Label => Method.Length == 0 ? Step : $"{Step}: {Method}";

    /// <summary>The technique.</summary>
    internal Technique Technique => Technique.Of(Step, Method);

    /// <summary>The technique of a step for layers.</summary>
    internal LayerTechnique Layer => (LayerTechnique)Technique;

    /// <summary>The options as the technique's record.</summary>
    internal object Typed => Technique.Options(Options);

    /// <summary>The technique with its options.</summary>
    internal Setting Setting => new(Technique, Typed);

    /// <summary>Whether it runs the model with its layers coded.</summary>
    internal bool RunsCoded => Technique is GraphTechnique { RunsCoded: true };

    /// <summary>The step of a setting.</summary>
    internal static RecipeStep Of(Setting setting) =>
        new(
            setting.Technique.Step,
            setting.Technique.Method,
            JsonSerializer.SerializeToElement(setting.Options, setting.Technique.OptionsType, Json.Options)
        );
}

/// <summary>What the result may cost.</summary>
/// <param name="MaxAccuracyLoss">Largest loss, a fraction: of accuracy when the data has labels, of top-1 agreement when it has none, of
/// cosine on synthetic inputs.</param>
/// <param name="MaxSizeRatio">Largest size after over size before.</param>
public sealed record RecipeBudget(double? MaxAccuracyLoss, double? MaxSizeRatio)
{
    /// <summary>Share of <see cref="MaxLatencyRatio"/> that a measured ratio may be above it: two measurements never agree.</summary>
    public const double LatencyTolerance = 0.05;

    /// <summary>Largest multiply-accumulates with stored weights after over those before, in a run of one sample.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MaxMacRatio { get; init; }

    /// <summary>
    /// Largest latency after over before, above 0 and up to 1: the ratio that the report has, of pairs of runs on the machine that
    /// compares the models. It is met within 5 %, as no two measurements agree (<see cref="LatencyTolerance"/>).
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MaxLatencyRatio { get; init; }
}

/// <summary>A rule for the layers whose weight or node name matches.</summary>
/// <param name="Match">A glob: <c>*</c> any characters, <c>?</c> one.</param>
/// <param name="Skip">Leave the layer alone.</param>
/// <param name="Overrides">Step name → options that replace the step's, as JSON.</param>
public sealed record LayerRule(string Match, bool Skip, IReadOnlyDictionary<string, JsonElement> Overrides);
