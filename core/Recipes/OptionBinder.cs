using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Techniques;
using YamlDotNet.RepresentationModel;

namespace Serverless.Core.Recipes;

/// <summary>Binds YAML scalars to the properties of an options record and validates them by its attributes.</summary>
internal static class OptionBinder
{
    /// <summary>The options of a record by recipe key: its public properties, except those that are not browsable.</summary>
    public static Dictionary<string, PropertyInfo> Of(Type type) =>
        type.GetProperties()
            .Where(p => p.GetCustomAttribute<BrowsableAttribute>() is not { Browsable: false })
            .ToDictionary(p => JsonNamingPolicy.CamelCase.ConvertName(p.Name));

    /// <summary>Parses one option's value.</summary>
    /// <exception cref="RecipeException">It is not a value of the option.</exception>
    public static JsonNode? Parse(YamlNode node, string key, PropertyInfo property)
    {
        if (node is not YamlScalarNode { Value: { } text })
            throw new RecipeException(node, $"'{key}' takes one value");
        var type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        if (type == typeof(bool))
            return text switch
            {
                "true" => true,
                "false" => false,
                _ => throw Wrong("true or false"),
            };
        if (type.IsEnum)
        {
            var words = Enum.GetNames(type).Select(JsonNamingPolicy.CamelCase.ConvertName).ToList();
            return words.Contains(text) ? text : throw Wrong(string.Join(", ", words));
        }
        if (type == typeof(string))
            return property.GetCustomAttributes<ValidationAttribute>().FirstOrDefault(r => !r.IsValid(text)) is { } broken
                ? throw new RecipeException(node, broken.FormatErrorMessage($"{key}: {text}"))
                : text;
        var word = property.GetCustomAttribute<WordAttribute>();
        if (text == word?.Text)
            return word.Value;
        var whole = type == typeof(int);
        if ((whole ? RecipeNumber.ReadWhole(text) : RecipeNumber.Read(text)) is not { } number)
            throw Wrong($"a {(whole ? "whole number" : "number")}; {RecipeNumber.About}");
        var value = Convert.ChangeType(number, type, CultureInfo.InvariantCulture);
        foreach (var rule in property.GetCustomAttributes<ValidationAttribute>().Where(r => !r.IsValid(value)))
            throw rule switch
            {
                RangeAttribute range => Wrong($"{range.Minimum} to {range.Maximum}"),
                AllowedValuesAttribute a when word is null => Wrong(string.Join(", ", a.Values)),
                AllowedValuesAttribute a => Wrong($"{string.Join(", ", a.Values.Where(v => !word.Value.Equals(v)))} or {word.Text}"),
                _ => new RecipeException(node, rule.FormatErrorMessage(key)),
            };
        return JsonSerializer.SerializeToNode(value);

        RecipeException Wrong(string allowed) => new(node, $"'{key}: {text}' is not allowed; it takes {allowed}");
    }

    /// <summary>Options as a recipe has them: with the words for numbers that have one.</summary>
    /// <param name="options">Options by key.</param>
    /// <param name="type">Their record.</param>
    public static JsonObject Worded(JsonObject options, Type type)
    {
        foreach (var (key, property) in Of(type))
            if (
                property.GetCustomAttribute<WordAttribute>() is { } word
                && options[key] is JsonValue value
                && value.TryGetValue(out int number)
                && number == word.Value
            )
                options[key] = word.Text;
        return options;
    }

    /// <summary>Binds a map onto an options record; absent keys keep its defaults.</summary>
    public static JsonObject Bind(YamlMappingNode? map, Type type, IReadOnlyCollection<string> alsoKnown)
    {
        var bound = new JsonObject();
        if (map is null)
            return bound;
        var known = Of(type);
        foreach (var (keyNode, value) in map.Children)
        {
            var key = RecipeReader.Key(keyNode);
            if (alsoKnown.Contains(key))
                continue;
            if (key.Length > 0 && key.All(char.IsAsciiDigit))
                throw new RecipeException(keyNode, $"'{key}' behind a comma is no key; {RecipeNumber.About}");
            if (!known.TryGetValue(key, out var property))
                throw RecipeException.Unknown(keyNode, key, known.Keys.Concat(alsoKnown));
            bound[key] = Parse(value, key, property);
        }
        return bound;
    }

    /// <summary>Binds those keys of a map that a record knows; the others are somebody else's.</summary>
    public static JsonObject BindKnown(YamlMappingNode? map, Type type)
    {
        var bound = new JsonObject();
        var known = Of(type);
        foreach (var (keyNode, value) in map?.Children.AsEnumerable() ?? [])
            if (known.TryGetValue(RecipeReader.Key(keyNode), out var property))
                bound[RecipeReader.Key(keyNode)] = Parse(value, RecipeReader.Key(keyNode), property);
        return bound;
    }

    /// <summary>A record with its defaults, and <paramref name="overrides"/> in their place.</summary>
    public static object Merge(Type type, JsonElement options, JsonElement? overrides)
    {
        var merged = JsonObject.Create(options) ?? [];
        if (overrides is { } o)
            foreach (var property in o.EnumerateObject())
                merged[property.Name] = JsonNode.Parse(property.Value.GetRawText());
        return merged.Deserialize(type, Json.Options)!;
    }
}
