using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Forms;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;
using YamlDotNet.Serialization;

namespace Serverless.Core.Recipes;

/// <summary>Writes a recipe as resolved: every option spelled out, readable by <see cref="RecipeReader"/>.</summary>
public static class RecipeWriter
{
    /// <summary>The YAML of a recipe.</summary>
    public static string Write(Recipe recipe)
    {
        var root = new YamlMappingNode { { "version", "1" } };
        if (recipe.Budget is { } budget)
            root.Add("budget", Flow(Json(budget)));
        if (recipe.Store != Store.Balanced)
            root.Add("store", recipe.Store.ToString().ToLowerInvariant());
        if (recipe.LoadSeconds is { } seconds)
            root.Add("loadSeconds", seconds.ToString("R", CultureInfo.InvariantCulture));
        if (recipe.Retrain.Wait > 0)
            root.Add("retrain", Flow(Json(recipe.Retrain)));
        if (recipe.Evaluate != new EvaluateOptions())
            root.Add("evaluate", Flow(Json(recipe.Evaluate)));
        root.Add("steps", new YamlSequenceNode(recipe.Steps.Select(s => new YamlMappingNode { { s.Step, Flow(Options(s)) } })));
        if (recipe.Layers.Count > 0)
            root.Add("layers", new YamlSequenceNode(recipe.Layers.Select(r => Rule(r, recipe.Steps))));

        using var yaml = new StringWriter { NewLine = "\n" };
        if (recipe.Preset is { } preset)
            yaml.WriteLine($"# from preset: {preset}");
        new Serializer().Serialize(new Emitter(yaml, new EmitterSettings().WithBestWidth(int.MaxValue)), root);
        return yaml.ToString();
    }

    private static JsonObject Options(RecipeStep step)
    {
        var options = new JsonObject();
        if (step.Method.Length > 0)
            options["method"] = step.Method;
        if (step.Placement.Device != StepDevice.Cpu)
            Add(Json(step.Placement));
        Add(JsonObject.Create(step.Options)!);
        return OptionBinder.Worded(options, step.Technique.OptionsType);

        void Add(JsonObject more)
        {
            foreach (var (key, value) in more)
                options[key] = value?.DeepClone();
        }
    }

    private static YamlMappingNode Rule(LayerRule rule, IReadOnlyList<RecipeStep> steps)
    {
        var written = new YamlMappingNode { Style = MappingStyle.Flow };
        // The emitter leaves a name that begins or ends in a tab without quotes.
        written.Add("match", new YamlScalarNode(rule.Match) { Style = ScalarStyle.DoubleQuoted });
        if (rule.Skip)
            written.Add("skip", "true");
        foreach (var (step, options) in rule.Overrides)
        {
            var overrides = JsonObject.Create(options)!;
            var named = steps.FirstOrDefault(s => s.Step == step);
            written.Add(step, Flow(named is null ? overrides : OptionBinder.Worded(overrides, named.Technique.OptionsType)));
        }
        return written;
    }

    private static JsonObject Json(object options) =>
        JsonSerializer.SerializeToNode(options, options.GetType(), Core.Json.Options)!.AsObject();

    // JSON in YAML's flow style, without what is null.
    private static YamlNode Flow(JsonNode node) =>
        node is JsonObject map
            ? new YamlMappingNode(map.Where(p => p.Value is not null).Select(p => KeyValuePair.Create((YamlNode)p.Key, Flow(p.Value!))))
            {
                Style = MappingStyle.Flow,
            }
            : new YamlScalarNode(node.ToString());
}
