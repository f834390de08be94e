using System.Text.Json;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Recipes;

/// <summary>Named recipes.</summary>
public static class Presets
{
    /// <summary>What a drop without a recipe gets.</summary>
    public const string Default = "int8";

    private static readonly Dictionary<string, RecipeStep[]> All = new()
    {
        ["int8"] = [Rtn(new RoundToNearestOptions { Bits = 8 })],
        ["int4"] = [Rtn(new RoundToNearestOptions { Bits = 4 })],
        ["int2"] = [Rtn(new RoundToNearestOptions { Bits = 2, Symmetric = false })],
    };

    /// <summary>The names.</summary>
    public static IEnumerable<string> Names => All.Keys;

    /// <summary>The steps of a preset, or null when there is none of that name.</summary>
    public static IReadOnlyList<RecipeStep>? Steps(string name) => All.GetValueOrDefault(name);

    /// <summary>The recipe of a preset.</summary>
    public static Recipe Recipe(string name) => new(name, All[name], new ModelSteps(), null, []);

    private static RecipeStep Rtn(RoundToNearestOptions options) =>
        new("quantize", "rtn", JsonSerializer.SerializeToElement(options, Json.Options));
}
