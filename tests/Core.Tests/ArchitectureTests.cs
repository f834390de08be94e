using System.Text.RegularExpressions;
using ArchUnitNET.Domain;
using ArchUnitNET.Loader;
using Serverless.Core.Techniques;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Data flows one way: host → pipeline → techniques → numerics and the model file.</summary>
public class ArchitectureTests
{
    private static readonly Architecture Architecture = new ArchLoader()
        .LoadAssemblies(typeof(BadInputException).Assembly, typeof(ExitCode).Assembly)
        .Build();

    [Theory]
    [InlineData("Serverless.Core.Numerics", "Techniques|Recipes|Runs|Evaluation|Reports|Storage")]
    [InlineData("Serverless.Core.Storage", "Recipes|Numerics|Techniques|Runs|Evaluation|Reports|Model|Events")]
    [InlineData("Serverless.Core.Events", "Recipes|Numerics|Techniques|Runs|Evaluation|Reports|Model")]
    [InlineData("Serverless.Core.Model", "Techniques|Recipes|Runs|Evaluation|Reports")]
    [InlineData("Serverless.Core.Statistics", "Techniques|Forms|Grids|Recipes|Runs|Evaluation|Reports")]
    [InlineData("Serverless.Core.Grids", "Techniques|Forms|Statistics|Recipes|Runs|Evaluation|Reports|Storage")]
    [InlineData("Serverless.Core.Forms", "Techniques|Statistics|Recipes|Runs|Evaluation|Reports")]
    [InlineData("Serverless.Core.Allocation", "Techniques|Forms|Grids|Statistics|Recipes|Runs|Evaluation|Reports|Model")]
    [InlineData("Serverless.Core.Execution", "Techniques|Recipes|Runs|Evaluation|Reports")]
    [InlineData("Serverless.Core.Techniques", "Recipes|Runs|Evaluation|Reports")]
    [InlineData("Serverless.Core.Recipes", "Runs|Evaluation|Reports|Model")]
    [InlineData("Serverless.Core.Evaluation", "Techniques|Recipes|Runs|Reports")]
    [InlineData("Serverless.Core.Reports", "Techniques|Runs|Evaluation|Model|Storage|Numerics")]
    [InlineData("Serverless.Core", "Local|App|GpuJob")]
    public void Nothing_depends_on_what_stands_above_it(string from, string above)
    {
        var forbidden = above.Split('|').SelectMany(n => new[] { $"Serverless.Core.{n}", $"Serverless.{n}" }).ToList();
        var wrong = Architecture
            .Types.Where(t => In(t, from))
            .SelectMany(t => t.Dependencies.Select(d => (From: t.FullName, To: d.Target)))
            .Where(d => forbidden.Any(f => In(d.To, f)))
            .Select(d => $"{d.From} → {d.To.FullName}")
            .Distinct()
            .ToList();
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
        Assert.Contains(Architecture.Types, t => In(t, from));
    }

    [Fact]
    public void Recipes_and_runs_see_no_family_of_techniques()
    {
        string[] families =
        [
            "Quantization",
            "Activations",
            "Simplification",
            "Scaling",
            "BiasCorrection",
            "Pruning",
            "Factorization",
            "Sharing",
        ];
        var wrong = Architecture
            .Types.Where(t => In(t, "Serverless.Core.Recipes") || In(t, "Serverless.Core.Runs"))
            .Where(t => t.Dependencies.Any(d => families.Any(f => In(d.Target, $"Serverless.Core.Techniques.{f}"))))
            .Select(t => t.FullName.Split('/', '+', '<', '`')[0].Split('.')[^1])
            .Distinct()
            .Order(StringComparer.Ordinal);
        Assert.Empty(wrong);
    }

    [Fact]
    public void No_file_of_the_runs_names_a_step_or_a_method()
    {
        // What is compressed is a drop, and a budget grants a loss: the runs mean these by the words.
        string[] ownWords = ["drop", "loss"];
        var names = Technique
            .All.SelectMany(t => new[] { t.Step, t.Method })
            .Where(n => n.Length > 0)
            .Except(ownWords)
            .ToHashSet(StringComparer.Ordinal);
        var wrong =
            from file in Directory.EnumerateFiles(Path.Combine(RealModels.Repository, "core", "Runs"), "*.cs", SearchOption.AllDirectories)
            from literal in Regex.Matches(File.ReadAllText(file), "\"([^\"\n]*)\"").Select(m => m.Groups[1].Value)
            from word in Regex.Matches(literal, "[A-Za-z0-9]+").Select(m => m.Value)
            where names.Contains(word)
            select $"{Path.GetFileName(file)}: {literal}";
        Assert.Empty(wrong);
    }

    [Fact]
    public void The_core_knows_no_host_package()
    {
        var names = typeof(BadInputException).Assembly.GetReferencedAssemblies().Select(a => a.Name!);
        Assert.DoesNotContain(
            names,
            n =>
                n.StartsWith("Microsoft.Azure", StringComparison.Ordinal)
                || n.StartsWith("Microsoft.DurableTask", StringComparison.Ordinal)
                || n.StartsWith("Spectre", StringComparison.Ordinal)
                || n.StartsWith("System.CommandLine", StringComparison.Ordinal)
        );
    }

    [Fact]
    public void Files_stay_small()
    {
        var long400 = Directory
            .EnumerateFiles(RealModels.Repository, "*.cs", SearchOption.AllDirectories)
            .Where(f =>
                !f.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal)
                && File.ReadLines(f).Count() > 400
            );
        Assert.Empty(long400);
    }

    private static bool In(IType type, string name) =>
        type.Namespace?.FullName is { } n && (n == name || n.StartsWith(name + ".", StringComparison.Ordinal));
}
