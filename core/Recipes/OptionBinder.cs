using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Techniques;
using YamlDotNet.RepresentationModel;

namespace Serverless.Core.Recipes;

/// <summary>Binds YAML scalars to the properties of an options record, by the record's own attributes.</summary>
internal static class OptionBinder
{
    /// <summary>The options of a record: recipe key, property, documentation.</summary>
    public static IEnumerable<(string Key, PropertyInfo Property, OptionAttribute Option)> Of(Type type) =>
        from p in type.GetProperties()
        let o = p.GetCustomAttribute<OptionAttribute>()
        where o is not null
        select (JsonNamingPolicy.CamelCase.ConvertName(p.Name), p, o);

    /// <summary>Parses one option's value.</summary>
    /// <exception cref="RecipeException">It is not a value of the option.</exception>
    public static JsonNode? Parse(YamlNode node, string key, PropertyInfo property, OptionAttribute option)
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
        if (option.Word is { } word && text == word)
            return option.WordValue;
        if (type == typeof(int))
        {
            if (RecipeNumber.ReadWhole(text) is not { } i)
                throw Wrong($"a whole number; {RecipeNumber.About}");
            if (option.Values.Length > 0 && !option.Values.Contains(i))
                throw Wrong(
                    string.Join(", ", option.Values.Where(v => option.Word is null || v != option.WordValue))
                        + (option.Word is null ? "" : $" or {option.Word}")
                );
            if (i < option.Min || i > option.Max)
                throw Wrong($"{option.Min} to {option.Max}");
            return i;
        }
        if (RecipeNumber.Read(text) is not { } d)
            throw Wrong($"a number; {RecipeNumber.About}");
        if (d < option.Min || d > option.Max)
            throw Wrong($"{option.Min} to {option.Max}");
        return d;

        RecipeException Wrong(string allowed) => new(node, $"'{key}: {text}' is not allowed; it takes {allowed}");
    }

    /// <summary>Binds a map onto an options record; absent keys keep its defaults.</summary>
    public static JsonObject Bind(YamlMappingNode? map, Type type, IReadOnlyCollection<string> alsoKnown)
    {
        var bound = new JsonObject();
        if (map is null)
            return bound;
        var known = Of(type).ToDictionary(o => o.Key);
        foreach (var (keyNode, value) in map.Children)
        {
            var key = RecipeReader.Key(keyNode);
            if (alsoKnown.Contains(key))
                continue;
            if (key.Length > 0 && key.All(char.IsAsciiDigit))
                throw new RecipeException(keyNode, $"'{key}' behind a comma is no key; {RecipeNumber.About}");
            if (!known.TryGetValue(key, out var o))
                throw RecipeException.Unknown(keyNode, key, known.Keys.Concat(alsoKnown));
            bound[key] = Parse(value, key, o.Property, o.Option);
        }
        return bound;
    }

    /// <summary>Binds those keys of a map that a record knows; the others are somebody else's.</summary>
    public static JsonObject BindKnown(YamlMappingNode? map, Type type)
    {
        var bound = new JsonObject();
        var known = Of(type).ToDictionary(o => o.Key);
        foreach (var (keyNode, value) in map?.Children.AsEnumerable() ?? [])
            if (known.TryGetValue(RecipeReader.Key(keyNode), out var o))
                bound[o.Key] = Parse(value, o.Key, o.Property, o.Option);
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
