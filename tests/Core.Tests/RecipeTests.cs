using System.ComponentModel.DataAnnotations;
using System.Reflection;
using System.Text.Json;
using Serverless.Core.Recipes;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.BiasCorrection;
using Serverless.Core.Techniques.Quantization;
using Serverless.Core.Techniques.Scaling;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

public class RecipeTests
{
    [Fact]
    public void The_shipped_schema_is_the_one_that_the_options_make()
    {
        var file = Path.Combine(RealModels.Repository, "core", "Recipes", "recipe.schema.json");
        if (Environment.GetEnvironmentVariable("SERVERLESS_UPDATE") is not null)
            File.WriteAllText(file, RecipeSchema.Generate());
        Assert.Equal(RecipeSchema.Generate(), File.ReadAllText(file));
    }

    [Fact]
    public void A_range_compares_values_of_its_options_type() =>
        Assert.All(
            Technique.All.Select(t => t.OptionsType).Append(typeof(StepPlacement)).SelectMany(t => OptionBinder.Of(t).Values),
            p =>
            {
                if (p.GetCustomAttribute<RangeAttribute>() is { } range)
                    Assert.Equal(Nullable.GetUnderlyingType(p.PropertyType) ?? p.PropertyType, range.OperandType);
            }
        );

    [Fact]
    public void A_budget_of_latency_is_written_and_read_back()
    {
        var recipe = RecipeReader.Read("version: 1\npreset: int8\nbudget: {maxLatencyRatio: 0.6}\n", "r");
        var again = RecipeReader.Read(RecipeWriter.Write(recipe).Replace("# from preset: int8\n", "", StringComparison.Ordinal), "r");
        Assert.Equal((0.6, 0.6), (recipe.Budget!.MaxLatencyRatio, again.Budget!.MaxLatencyRatio));
        Assert.Null(RecipeReader.Read("version: 1\npreset: int8\nbudget: {maxMacRatio: 0.6}\n", "r").Budget!.MaxLatencyRatio);
    }

    [Fact]
    public void What_is_written_is_read_back_the_same()
    {
        const string Yaml = """
            version: 1
            budget: {maxAccuracyLoss: 0.01, maxSizeRatio: 0.25}
            evaluate: {timeout: 2.5, latency: false}
            steps:
            - simplify: {names: keep, batchNorm: false}
            - equalize: {rounds: 7}
            - smooth: {strength: 0.75}
            - correctBias: {apply: false}
            - quantize: {method: rtn, bits: 4, group: channel, symmetric: false, scale: absmax}
            layers:
            - {match: "*/head \"x\"*", skip: true}
            - {match: "*a*", bits: 8}
            - {match: "*b*", quantize: {group: 64}}
            - {match: "*c*", quantize: {bits: mixed}}
            - {match: "two\nlines: #", skip: true}
            """;
        var recipe = RecipeReader.Read(Yaml, "r");
        var written = RecipeWriter.Write(recipe);
        var again = RecipeReader.Read(written, "r");
        Assert.Contains("group: channel", written, StringComparison.Ordinal);
        Assert.Contains("quantize: {bits: mixed}", written, StringComparison.Ordinal);
        Assert.Equal(JsonSerializer.Serialize(recipe, Json.Options), JsonSerializer.Serialize(again, Json.Options));
        Assert.Equal(["simplify", "equalize", "smooth", "quantize", "correctBias"], recipe.Steps.Select(s => s.Step));
        Assert.Equal(
            (7, 0.75, false),
            (
                recipe.Find<EqualizationOptions>()!.Rounds,
                recipe.Find<SmoothingOptions>()!.Strength,
                recipe.Find<BiasCorrectionOptions>()!.Apply
            )
        );
        var options = recipe.Steps[3].Options.Deserialize<RoundToNearestOptions>(Json.Options)!;
        Assert.Equal((4, 0, false, ScaleSearch.Absmax), (options.Bits, options.Group, options.Symmetric, options.Scale));
        Assert.Equal(8, recipe.Layers[1].Overrides["quantize"].GetProperty("bits").GetInt32());
    }

    [Theory]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 4}\n- quantize: {bits: 8}\n", "line 4: a step before quantizes the layers already")]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 4}\n- smooth: {}\n", "line 4: 'smooth' scales weights before they are rounded")]
    [InlineData("version: 1\nsteps:\n- equalize: {}\n- equalize: {rounds: 3}\n", "two 'equalize' steps")]
    [InlineData("version: 1\nsteps:\n- equalise: {}\n", "did you mean 'equalize'?")]
    [InlineData("version: 1\nsteps:\n- quantize: {method: float16, type: bfloat16, compute: true}\n", "no kernels for bfloat16")]
    [InlineData("version: 1\npreset: int8\n---\nversion: 1\npreset: int4\n", "line 4: a second document")]
    [InlineData("version: 1\npreset: int9\n", "known are int8, int4, int2")]
    [InlineData("version: 1\nsteps:\n- quantize: {group: 20}\n", "16, 32, 64, 128, 256 or channel")]
    [InlineData("version: 1\npreset: int8\nlayers:\n- {skip: true}\n", "needs 'match'")]
    [InlineData("version: 1\npreset: int8\nlayers:\n- {match: a, bitss: 4}\n", "did you mean 'bits'?")]
    [InlineData("version: 1\npreset: &a int8\nlayers: [*a]\n", "aliases")]
    [InlineData("version: 1\nbudget: {maxSizeRatio: 2}\npreset: int8\n", "fraction")]
    [InlineData("version: 1\nbudget: {maxLatencyRatio: 0}\npreset: int8\n", "above 0")]
    [InlineData("version: 1\nbudget: {maxLatencyRatio: 1.1}\npreset: int8\n", "fraction")]
    [InlineData(
        "version: 1\nbudget: {maxLatencyRatio: 0.5}\nevaluate: {latency: false}\npreset: int8\n",
        "leave it or 'evaluate: {latency: false}' out"
    )]
    [InlineData(
        "version: 1\npreset: int8\nbudget:\n  maxAccuracyLoss: 0,01\n",
        "line 4: 'maxAccuracyLoss' takes a fraction from 0 to 1; write digits, a point"
    )]
    [InlineData("version: 1\npreset: int8\nbudget: {maxAccuracyLoss: 0,01}\n", "'01' behind a comma is no key; write digits, a point")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxAccuracyLoss: \"1,0\"}\n", "fraction")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxSizeRatio: 00.5}\n", "fraction")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxSizeRatio: 0_1}\n", "fraction")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxSizeRatio: .inf}\n", "fraction")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxSizeRatio: \"٠\"}\n", "fraction")]
    [InlineData("version: 1\npreset: int8\nevaluate: {timeout: 1:30}\n", "a point for decimals")]
    [InlineData("version: 1\npreset: int8\nevaluate: {timeout: 2,5}\n", "'5' behind a comma is no key")]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 010}\n", "a whole number")]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 0x4}\n", "a whole number")]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 4.0}\n", "a whole number")]
    [InlineData("version: 1\nsteps:\n- quantize: {method: static, samples: 1_000}\n", "a whole number")]
    [InlineData("version: 1\nsteps:\n- quantize: {method: static, samples: \"1,000\"}\n", "a whole number")]
    [InlineData("version: 1\nsteps:\n- quantize: {symmetric: yes}\n", "true or false")]
    [InlineData("", "empty")]
    public void What_is_wrong_is_said(string yaml, string what) =>
        Assert.Contains(what, Assert.Throws<BadInputException>(() => RecipeReader.Read(yaml, "recipe.yaml")).Message);

    [Theory]
    [InlineData("0.01", 0.01)]
    [InlineData(".5", 0.5)]
    [InlineData("1e-3", 0.001)]
    [InlineData("+0.25", 0.25)]
    [InlineData("0", 0)]
    [InlineData("1", 1)]
    public void Numbers_with_one_reading_are_taken(string written, double read) =>
        Assert.Equal(
            read,
            RecipeReader.Read($"version: 1\npreset: int8\nbudget: {{maxAccuracyLoss: {written}}}\n", "r").Budget!.MaxAccuracyLoss
        );

    [Fact]
    public void Deep_and_long_recipes_are_refused_without_harm()
    {
        Assert.Throws<BadInputException>(() => RecipeReader.Read("version: 1\nsteps: " + new string('[', 100_000), "r"));
        Assert.Throws<BadInputException>(() => RecipeReader.Read(new string('x', RecipeReader.LargestRecipe + 1), "r"));
    }
}
