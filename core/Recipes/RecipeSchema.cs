using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Techniques;

namespace Serverless.Core.Recipes;

/// <summary>The JSON schema of <c>recipe.yaml</c> (JSON Schema 2020-12), made from the techniques' own options.</summary>
public static class RecipeSchema
{
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
            foreach (var o in group.SelectMany(t => OptionBinder.Of(t.OptionsType)))
                rule[o.Key] ??= Option(o.Property, o.Option);
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
                ["budget"] = Object(new JsonObject { ["maxAccuracyLoss"] = fraction.DeepClone(), ["maxSizeRatio"] = fraction }),
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
        var properties = new JsonObject();
        if (technique is { Method.Length: > 0 })
            properties["method"] = new JsonObject { ["const"] = technique.Method, ["description"] = technique.About };
        var placement = technique is null ? [] : OptionBinder.Of(typeof(StepPlacement));
        foreach (var o in OptionBinder.Of(type).Concat(placement))
            properties[o.Key] = Option(o.Property, o.Option);
        return Object(properties);
    }

    private static JsonObject Option(PropertyInfo property, OptionAttribute option)
    {
        var type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        var schema = new JsonObject { ["description"] = option.About };
        if (type == typeof(bool))
            schema["type"] = "boolean";
        else if (type.IsEnum)
            schema["enum"] = new JsonArray([
                .. Enum.GetNames(type).Select(n => JsonValue.Create(JsonNamingPolicy.CamelCase.ConvertName(n))),
            ]);
        else if (option.Values.Length > 0)
            schema["enum"] = new JsonArray([
                .. option.Values.Select(v => JsonValue.Create(v)),
                .. option.Word is { } word ? [JsonValue.Create(word)] : Array.Empty<JsonNode?>(),
            ]);
        else
        {
            schema["type"] = type == typeof(int) ? "integer" : "number";
            if (double.IsFinite(option.Min))
                schema["minimum"] = option.Min;
            if (double.IsFinite(option.Max))
                schema["maximum"] = option.Max;
        }
        return schema;
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
