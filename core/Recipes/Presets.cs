namespace Serverless.Core.Recipes;

/// <summary>Named recipes.</summary>
public static class Presets
{
    /// <summary>What a drop without a recipe gets.</summary>
    public const string Default = "int8";

    private static readonly Dictionary<string, string> All = new()
    {
        ["int8"] = "- quantize: {method: rtn, bits: 8}",
        ["int4"] = "- quantize: {method: rtn, bits: 4}",
        ["int2"] = "- quantize: {method: rtn, bits: 2, symmetric: false}",
    };

    /// <summary>The names.</summary>
    public static IEnumerable<string> Names => All.Keys;

    /// <summary>The recipe of a preset.</summary>
    /// <exception cref="BadInputException">There is none of that name.</exception>
    public static Recipe Recipe(string name) => RecipeReader.Read($"version: 1\npreset: {name}\n", $"preset {name}");

    /// <summary>The steps of a preset, a YAML list; null when there is none of that name.</summary>
    internal static string? Steps(string name) => All.GetValueOrDefault(name);
}
