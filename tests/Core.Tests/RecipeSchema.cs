using System.ComponentModel.DataAnnotations;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Schema;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Xml.Linq;
using Serverless.Core.Recipes;
using Serverless.Core.Techniques;

namespace Serverless.Core.Tests;

/// <summary>The JSON schema of <c>recipe.yaml</c> (JSON Schema 2020-12), made from the options records and their documentation.</summary>
internal static class RecipeSchema
{
    private static readonly JsonSerializerOptions Serializer = new(Json.Options)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { KeepOptions } },
    };

    private static readonly JsonSchemaExporterOptions Exporter = new()
    {
        TreatNullObliviousAsNonNullable = true,
        TransformSchemaNode = Option,
    };

    private static readonly Dictionary<string, XElement> Documentation = XDocument
        .Load(Path.ChangeExtension(typeof(Recipe).Assembly.Location, ".xml"))
        .Descendants("member")
        .ToDictionary(m => m.Attribute("name")!.Value);

    /// <summary>The schema, as <c>core/Recipes/recipe.schema.json</c> holds it.</summary>
    public static string Generate()
    {
        var steps = new JsonArray();
        foreach (var group in Technique.Named.GroupBy(t => t.Step))
            steps.Add(Object(new JsonObject { [group.Key] = Methods(group, t => Options(t.OptionsType, t)) }, group.Key));
        var rule = new JsonObject
        {
            ["match"] = Text("Glob of weight or node names: * any characters, ? one."),
            ["skip"] = new JsonObject { ["type"] = "boolean", ["description"] = "Leave the layers alone." },
        };
        foreach (var group in Technique.Named.OfType<LayerTechnique>().GroupBy(t => t.Step))
        {
            rule[group.Key] = Methods(group, t => Options(t.OptionsType, null));
            foreach (var (key, option) in group.SelectMany(t => Properties(t.OptionsType)))
                rule[key] ??= option?.DeepClone();
        }
        var fraction = new JsonObject
        {
            ["type"] = "number",
            ["minimum"] = 0,
            ["maximum"] = 1,
        };
        var schema = Object(
            new JsonObject
            {
                ["version"] = new JsonObject { ["const"] = 1 },
                ["preset"] = new JsonObject { ["enum"] = new JsonArray([.. Presets.Names.Select(n => JsonValue.Create(n))]) },
                ["steps"] = new JsonObject
                {
                    ["type"] = "array",
                    ["minItems"] = 1,
                    ["items"] = new JsonObject { ["oneOf"] = steps },
                },
                ["budget"] = Object(
                    new JsonObject
                    {
                        ["maxAccuracyLoss"] = fraction.DeepClone(),
                        ["maxSizeRatio"] = fraction.DeepClone(),
                        ["maxMacRatio"] = fraction.DeepClone(),
                        ["maxLatencyRatio"] = new JsonObject
                        {
                            ["type"] = "number",
                            ["exclusiveMinimum"] = 0,
                            ["maximum"] = 1,
                        },
                    }
                ),
                ["store"] = new JsonObject
                {
                    ["enum"] = new JsonArray("balanced", "small", "fast"),
                    ["description"] =
                        "What the forms of layers are chosen by: balanced (default), the fewest bytes, or the least time of a run.",
                },
                ["loadSeconds"] = new JsonObject
                {
                    ["type"] = "number",
                    ["exclusiveMinimum"] = 0,
                    ["maximum"] = 600,
                    ["description"] =
                        "With 'store: small', seconds that decoding may take while the result is loaded (default 1, and less where there is little to decode).",
                },
                ["retrain"] = Options(typeof(RetrainOptions), null),
                ["evaluate"] = Options(typeof(EvaluateOptions), null),
                ["layers"] = new JsonObject { ["type"] = "array", ["items"] = Object(rule, "match") },
            },
            "version"
        );
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
        schema["title"] = "Serverless recipe";
        schema["oneOf"] = new JsonArray(
            new JsonObject { ["required"] = new JsonArray("preset") },
            new JsonObject { ["required"] = new JsonArray("steps") }
        );
        return schema
                .ToJsonString(
                    new JsonSerializerOptions
                    {
                        WriteIndented = true,
                        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
                    }
                )
                .ReplaceLineEndings("\n") + "\n";
    }

    private static JsonObject Methods(IEnumerable<Technique> methods, Func<Technique, JsonObject> of) =>
        methods.ToList() is [{ Method: "" } only] ? of(only) : new JsonObject { ["anyOf"] = new JsonArray([.. methods.Select(of)]) };

    private static JsonObject Options(Type type, Technique? technique)
    {
        var schema = Record(type);
        if (technique is null)
            return schema;
        var properties = schema["properties"]!.AsObject();
        if (technique.Method.Length > 0)
            properties.Insert(0, "method", new JsonObject { ["const"] = technique.Method, ["description"] = technique.About });
        foreach (var (key, option) in Properties(typeof(StepPlacement)))
            properties[key] = option?.DeepClone();
        return schema;
    }

    private static void KeepOptions(JsonTypeInfo record)
    {
        var options = OptionBinder.Of(record.Type);
        foreach (var other in record.Properties.Where(p => !options.ContainsKey(p.Name)).ToList())
            record.Properties.Remove(other);
    }

    private static JsonObject Properties(Type type) => Record(type)["properties"]!.AsObject();

    private static JsonObject Record(Type type) => Serializer.GetJsonSchemaAsNode(type, Exporter).AsObject();

    // The schema of an option, with what its attributes and its documentation say.
    private static JsonNode Option(JsonSchemaExporterContext context, JsonNode node)
    {
        if (context.PropertyInfo?.AttributeProvider is not PropertyInfo property)
            return node;
        var schema = node.AsObject();
        schema.Insert(0, "description", About($"P:{property.DeclaringType!.FullName}.{property.Name}"));
        // An option that is not given is absent, never null.
        if (schema["type"] is JsonArray types)
            schema["type"] = types[0]!.DeepClone();
        if (property.GetCustomAttribute<RangeAttribute>() is { } range)
            (schema["minimum"], schema["maximum"]) = (
                JsonSerializer.SerializeToNode(range.Minimum),
                JsonSerializer.SerializeToNode(range.Maximum)
            );
        if (property.GetCustomAttribute<RegularExpressionAttribute>() is { } expression)
            schema["pattern"] = $"^({expression.Pattern})$";
        if (property.GetCustomAttribute<AllowedValuesAttribute>() is { } allowed)
        {
            schema.Remove("type");
            object?[] word = property.GetCustomAttribute<WordAttribute>() is { } w ? [w.Text] : [];
            schema["enum"] = JsonSerializer.SerializeToNode(allowed.Values.Concat(word));
        }
        return schema;
    }

    private static string About(string member)
    {
        var documentation = Documentation[member];
        return documentation.Element("inheritdoc")?.Attribute("cref") is { } other
            ? About(other.Value)
            : string.Join(' ', documentation.Element("summary")!.Value.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
    }

    private static JsonObject Text(string about) => new() { ["type"] = "string", ["description"] = about };

    private static JsonObject Object(JsonObject properties, params string[] required)
    {
        var schema = new JsonObject
        {
            ["type"] = "object",
            ["properties"] = properties,
            ["additionalProperties"] = false,
        };
        if (required.Length > 0)
            schema["required"] = new JsonArray([.. required.Select(r => JsonValue.Create(r))]);
        return schema;
    }
}
