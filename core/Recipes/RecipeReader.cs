using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Forms;
using Serverless.Core.Techniques;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace Serverless.Core.Recipes;

/// <summary>Reads and checks <c>recipe.yaml</c>.</summary>
public static class RecipeReader
{
    /// <summary>Largest recipe read, in characters.</summary>
    public const int LargestRecipe = 256 << 10;

    private const int DeepestNesting = 16;
    private static readonly string[] CommonKeys = ["method", .. OptionBinder.Of(typeof(StepPlacement)).Keys];
    private const double MostLoadSeconds = 600;
    private static readonly string[] TopKeys =
    [
        "version",
        "preset",
        "steps",
        "budget",
        "store",
        "loadSeconds",
        "retrain",
        "evaluate",
        "layers",
    ];

    /// <summary>Reads a recipe.</summary>
    /// <param name="text">The YAML.</param>
    /// <param name="file">How to name it in an error.</param>
    /// <exception cref="BadInputException">It is not a recipe; says which line and why.</exception>
    public static Recipe Read(string text, string file)
    {
        try
        {
            if (text.Length > LargestRecipe)
                throw new RecipeException(1, $"is longer than {LargestRecipe} characters");
            return Parse(text);
        }
        catch (RecipeException e)
        {
            throw new BadInputException($"{file}, line {e.Line}: {e.Message.TrimEnd('.', '?')}{(e.Message.EndsWith('?') ? "?" : ".")}", e);
        }
        catch (YamlException e)
        {
            throw new BadInputException(
                $"{file}, line {e.Start.Line}: not valid YAML: {e.Message.Split('\n')[0].TrimEnd('.')}; check the "
                    + "indentation and brackets there.",
                e
            );
        }
    }

    internal static string Key(YamlNode node) =>
        node is YamlScalarNode { Value: { } v } ? v : throw new RecipeException(node, "a key must be a word");

    private static Recipe Parse(string text)
    {
        CheckNesting(text);
        var stream = new YamlStream();
        stream.Load(new StringReader(text));
        if (stream.Documents.Count == 0)
            throw new RecipeException(1, "is empty; give at least 'version: 1' and a preset or steps");
        if (stream.Documents.Count > 1)
            throw new RecipeException(stream.Documents[1].RootNode, "a second document begins here; a recipe is one");
        if (stream.Documents[0].RootNode is not YamlMappingNode root)
            throw new RecipeException(1, "is not a map of keys");
        foreach (var k in root.Children.Keys)
            if (!TopKeys.Contains(Key(k)))
                throw RecipeException.Unknown(k, Key(k), TopKeys);
        if (Child(root, "version") is not { } version)
            throw new RecipeException(1, "has no 'version: 1'");
        if (version is not YamlScalarNode { Value: "1" })
            throw new RecipeException(version, "only 'version: 1' is known");

        var (preset, steps) = (Child(root, "preset"), Child(root, "steps"));
        if (preset is not null && steps is not null)
            throw new RecipeException(steps, "give either 'preset' or 'steps', not both");
        string? name = null;
        if (preset is not null)
        {
            name = preset is YamlScalarNode { Value: { } v } ? v : throw new RecipeException(preset, "'preset' takes one name");
            steps = ListOf(
                Presets.Steps(name)
                    ?? throw new RecipeException(preset, $"unknown preset '{name}'; known are {string.Join(", ", Presets.Names)}")
            );
        }
        if (steps is not YamlSequenceNode { Children.Count: > 0 } list)
            throw new RecipeException(steps ?? root, "give a 'preset' or a list of 'steps'");
        var parsed = list.Children.Select(n => (Node: n, Step: ParseStep(n))).ToList();
        var sequence = StepSequence.Of([.. parsed.Select(p => p.Step)]);
        if (StepSequence.WhyNot(sequence) is var (wrong, why))
            throw new RecipeException(parsed.FirstOrDefault(p => ReferenceEquals(p.Step, wrong)).Node ?? list, why);
        var (budget, evaluate) = (ParseBudget(Child(root, "budget")), Bound<EvaluateOptions>(Child(root, "evaluate"), "evaluate"));
        if (budget is { MaxLatencyRatio: not null } && !evaluate.Latency)
            throw new RecipeException(
                Child(root, "budget")!,
                "'maxLatencyRatio' is judged by timing the models; leave it or 'evaluate: {latency: false}' out"
            );
        return new Recipe(name, sequence, budget, ParseLayers(Child(root, "layers"), sequence))
        {
            Store = ParseStore(Child(root, "store")),
            LoadSeconds = ParseSeconds(Child(root, "loadSeconds"), Child(root, "store")),
            Retrain = Bound<RetrainOptions>(Child(root, "retrain"), "retrain"),
            Evaluate = evaluate,
        };
    }

    private static Store ParseStore(YamlNode? node)
    {
        if (node is null)
            return Store.Balanced;
        var names = Enum.GetValues<Store>().ToDictionary(s => s.ToString().ToLowerInvariant(), StringComparer.Ordinal);
        return node is YamlScalarNode { Value: { } name } && names.TryGetValue(name, out var store)
            ? store
            : throw new RecipeException(node, $"'store' takes {string.Join(", ", names.Keys)}");
    }

    private static double? ParseSeconds(YamlNode? node, YamlNode? store)
    {
        if (node is null)
            return null;
        if (node is not YamlScalarNode { Value: { } text } || RecipeNumber.Read(text) is not (> 0 and <= MostLoadSeconds and var seconds))
            throw new RecipeException(node, $"'loadSeconds' takes a number above 0, up to {MostLoadSeconds}; {RecipeNumber.About}");
        return ParseStore(store) == Store.Small
            ? seconds
            : throw new RecipeException(node, "'loadSeconds' goes with 'store: small', which decodes weights while the model is loaded");
    }

    private static YamlNode ListOf(string yaml)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(yaml));
        return stream.Documents[0].RootNode;
    }

    private static RecipeStep ParseStep(YamlNode node)
    {
        if (node is not YamlMappingNode { Children.Count: 1 } single)
            throw new RecipeException(node, "a step is one key with its options, as '- quantize: {bits: 8}'");
        var (keyNode, value) = single.Children.First();
        var step = Key(keyNode);
        var options = value switch
        {
            YamlMappingNode m => m,
            YamlScalarNode { Value: null or "" } => null,
            _ => throw new RecipeException(value, $"'{step}' takes a map of options"),
        };
        var methods = Technique.Named.Where(t => t.Step == step).ToList();
        if (methods.Count == 0)
            throw RecipeException.Unknown(keyNode, step, Technique.Named.Select(t => t.Step).Distinct());
        var technique = MethodOf(options, methods, step);
        var known = technique.Method.Length == 0 ? CommonKeys[1..] : CommonKeys;
        var typed = technique.Options(JsonSerializer.SerializeToElement(OptionBinder.Bind(options, technique.OptionsType, known)));
        if (technique.WhyInvalid(typed) is { } why)
            throw new RecipeException(keyNode, why);
        var placement = OptionBinder.BindKnown(options, typeof(StepPlacement)).Deserialize<StepPlacement>(Json.Options)!;
        return RecipeStep.Of(new Setting(technique, typed)) with { Placement = placement };
    }

    private static Technique MethodOf(YamlMappingNode? options, List<Technique> methods, string step)
    {
        if (options is null || methods is [{ Method: "" }] || Child(options, "method") is not { } node)
            return methods.FirstOrDefault(m => m.IsDefault) ?? methods[0];
        var method = (node as YamlScalarNode)?.Value ?? "";
        return methods.FirstOrDefault(t => t.Method == method)
            ?? throw new RecipeException(
                node,
                $"unknown method '{method}' of {step}; known are {string.Join(", ", methods.Select(t => t.Method))}"
            );
    }

    private static T Bound<T>(YamlNode? node, string key)
    {
        if (node is not (null or YamlMappingNode))
            throw new RecipeException(node, $"'{key}' takes a map of options");
        return OptionBinder.Bind(node as YamlMappingNode, typeof(T), []).Deserialize<T>(Json.Options)!;
    }

    private static RecipeBudget? ParseBudget(YamlNode? node)
    {
        if (node is null)
            return null;
        if (node is not YamlMappingNode map)
            throw new RecipeException(node, "'budget' takes {maxAccuracyLoss, maxSizeRatio, maxMacRatio, maxLatencyRatio}");
        string[] known = ["maxAccuracyLoss", "maxSizeRatio", "maxMacRatio", "maxLatencyRatio"];
        foreach (var k in map.Children.Keys)
        {
            // {maxAccuracyLoss: 0,01} is a map of two keys.
            if (Key(k).Length > 0 && Key(k).All(char.IsAsciiDigit))
                throw new RecipeException(k, $"'{Key(k)}' behind a comma is no key; {RecipeNumber.About}");
            if (!known.Contains(Key(k)))
                throw RecipeException.Unknown(k, Key(k), known);
        }
        if (Fraction("maxLatencyRatio") is 0)
            throw new RecipeException(map, "'maxLatencyRatio' takes a fraction above 0, up to 1");
        return new RecipeBudget(Fraction("maxAccuracyLoss"), Fraction("maxSizeRatio"))
        {
            MaxMacRatio = Fraction("maxMacRatio"),
            MaxLatencyRatio = Fraction("maxLatencyRatio"),
        };

        double? Fraction(string key)
        {
            if (Child(map, key) is not { } n)
                return null;
            return n is YamlScalarNode { Value: { } v } && RecipeNumber.Read(v) is { } d and >= 0 and <= 1
                ? d
                : throw new RecipeException(n, $"'{key}' takes a fraction from 0 to 1; {RecipeNumber.About}");
        }
    }

    private static IReadOnlyList<LayerRule> ParseLayers(YamlNode? node, IReadOnlyList<RecipeStep> sequence)
    {
        var steps = sequence.Where(s => s.Technique is LayerTechnique).ToList();
        if (node is null)
            return [];
        if (node is not YamlSequenceNode list)
            throw new RecipeException(node, "'layers' takes a list of rules, as '- {match: \"*head*\", skip: true}'");
        return [.. list.Children.Select(n => ParseRule(n, steps))];
    }

    private static LayerRule ParseRule(YamlNode node, IReadOnlyList<RecipeStep> steps)
    {
        if (node is not YamlMappingNode map)
            throw new RecipeException(node, "a rule is a map with 'match'");
        if (Child(map, "match") is not YamlScalarNode { Value: { Length: > 0 } match })
            throw new RecipeException(node, "a rule needs 'match', a glob of layer names");
        var skip = false;
        var overrides = new Dictionary<string, JsonObject>();
        foreach (var (keyNode, value) in map.Children)
        {
            var key = Key(keyNode);
            if (key == "match")
                continue;
            if (key == "skip")
            {
                skip = value is YamlScalarNode { Value: "true" or "false" } s
                    ? s.Value == "true"
                    : throw new RecipeException(value, "'skip' takes true or false");
            }
            else if (steps.FirstOrDefault(s => s.Step == key) is { } named)
            {
                if (value is not YamlMappingNode options)
                    throw new RecipeException(value, $"'{key}' takes a map of options");
                foreach (var (name, bound) in OptionBinder.Bind(options, Options(named), []))
                    Add(named.Step, name, bound);
            }
            else
            {
                if (key.Length > 0 && key.All(char.IsAsciiDigit))
                    throw new RecipeException(keyNode, $"'{key}' behind a comma is no key; {RecipeNumber.About}");
                var found = steps.SelectMany(s => OptionBinder.Of(Options(s)).Where(o => o.Key == key).Select(o => (s, o))).ToList();
                if (found.Count == 0)
                    throw RecipeException.Unknown(
                        keyNode,
                        key,
                        steps
                            .Select(s => s.Step)
                            .Concat(steps.SelectMany(s => OptionBinder.Of(Options(s)).Keys))
                            .Concat(["match", "skip"])
                            .Distinct()
                    );
                foreach (var (s, o) in found)
                    Add(s.Step, key, OptionBinder.Parse(value, key, o.Value));
            }
        }
        return new LayerRule(match, skip, overrides.ToDictionary(o => o.Key, o => JsonSerializer.SerializeToElement(o.Value)));

        void Add(string step, string name, JsonNode? value)
        {
            if (!overrides.TryGetValue(step, out var o))
                overrides[step] = o = [];
            o[name] = value?.DeepClone();
        }
    }

    private static Type Options(RecipeStep step) => step.Technique.OptionsType;

    private static YamlNode? Child(YamlMappingNode map, string key) =>
        map.Children.FirstOrDefault(c => c.Key is YamlScalarNode { Value: { } v } && v == key).Value;

    // The document tree is built by recursion; a hostile file must not reach the end of the stack, nor expand by aliases.
    private static void CheckNesting(string text)
    {
        var parser = new Parser(new StringReader(text));
        var depth = 0;
        while (parser.MoveNext())
        {
            if (parser.Current is AnchorAlias alias)
                throw new RecipeException(alias.Start.Line, "aliases are not supported; write the value out");
            depth += parser.Current!.NestingIncrease;
            if (depth > DeepestNesting)
                throw new RecipeException(parser.Current.Start.Line, $"nests more than {DeepestNesting} deep");
        }
    }
}
