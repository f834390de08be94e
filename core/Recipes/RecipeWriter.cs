using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Serverless.Core.Recipes;

/// <summary>Writes a recipe as resolved: every option spelled out, readable by <see cref="RecipeReader"/>.</summary>
public static class RecipeWriter
{
    /// <summary>The YAML of a recipe.</summary>
    public static string Write(Recipe recipe)
    {
        var yaml = new StringBuilder("version: 1\n");
        if (recipe.Preset is { } preset)
            yaml.Append("# from ").Append("preset: ").Append(preset).Append('\n');
        if (recipe.Budget is { } b)
        {
            var parts = new List<string>();
            if (b.MaxAccuracyLoss is { } loss)
                parts.Add($"maxAccuracyLoss: {Number(loss)}");
            if (b.MaxSizeRatio is { } ratio)
                parts.Add($"maxSizeRatio: {Number(ratio)}");
            yaml.Append("budget: {").AppendJoin(", ", parts).Append("}\n");
        }
        if (recipe.Retrain.Wait > 0)
            yaml.Append("retrain: {wait: ").Append(Number(recipe.Retrain.Wait)).Append("}\n");
        if (recipe.Evaluate != new EvaluateOptions())
            yaml.Append("evaluate: {timeout: ")
                .Append(Number(recipe.Evaluate.Timeout))
                .Append(recipe.Evaluate.Latency ? "}\n" : ", latency: false}\n");
        yaml.Append("steps:\n");
        foreach (var s in recipe.Steps)
            yaml.Append("- ").Append(s.Step).Append(": ").Append(Map(s.Options, [.. Method(s), .. Placement(s.Placement)])).Append('\n');
        if (recipe.Layers.Count > 0)
            yaml.Append("layers:\n");
        foreach (var rule in recipe.Layers)
        {
            var parts = new List<string> { $"match: {Quoted(rule.Match)}" };
            if (rule.Skip)
                parts.Add("skip: true");
            foreach (var (step, options) in rule.Overrides)
                parts.Add($"{step}: {Map(options)}");
            yaml.Append("- {").AppendJoin(", ", parts).Append("}\n");
        }
        return yaml.ToString();
    }

    private static string[] Method(RecipeStep s) => s.Method.Length == 0 ? [] : [$"method: {s.Method}"];

    private static string[] Placement(StepPlacement p) =>
        p.Device == StepDevice.Cpu
            ? []
            : ["device: gpu", $"fallback: {JsonNamingPolicy.CamelCase.ConvertName(p.Fallback.ToString())}", $"timeout: {p.Timeout}"];

    private static string Map(JsonElement options, params IEnumerable<string> first)
    {
        var parts = first.ToList();
        foreach (var p in options.EnumerateObject())
            if (p.Value.ValueKind != JsonValueKind.Null)
                parts.Add($"{p.Name}: {(p.Value.ValueKind == JsonValueKind.String ? p.Value.GetString() : p.Value.GetRawText())}");
        return "{" + string.Join(", ", parts) + "}";
    }

    private static string Quoted(string text) =>
        "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal) + "\"";

    private static string Number(double value) => value.ToString("0.############", CultureInfo.InvariantCulture);
}
