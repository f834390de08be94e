using System.Text.RegularExpressions;
using Serverless.Core.Recipes;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Recipes that people copy: those of <c>samples/</c> and those on the pages of the documentation.</summary>
public partial class SampleTests
{
    private static readonly string Samples = Path.Combine(RealModels.Repository, "samples");

    /// <summary>The names of the samples.</summary>
    public static TheoryData<string> Names =>
        [.. Directory.GetFiles(Samples, "*.yaml").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)];

    /// <summary>The pages, relative to the repository.</summary>
    public static TheoryData<string> Pages =>
        [
            .. new[] { "core", "docs", "infra", "samples" }
                .SelectMany(f => Directory.GetFiles(Path.Combine(RealModels.Repository, f), "*.md", SearchOption.AllDirectories))
                .Concat(Directory.GetFiles(RealModels.Repository, "*.md"))
                .Where(f => YamlBlock().IsMatch(File.ReadAllText(f)))
                .Select(f => Path.GetRelativePath(RealModels.Repository, f).Replace('\\', '/'))
                .Order(StringComparer.Ordinal),
        ];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_sample_is_a_recipe_that_says_its_goal_and_stands_in_the_table(string name)
    {
        var text = File.ReadAllText(Path.Combine(Samples, name));
        var recipe = RecipeReader.Read(text, name);
        Assert.NotEmpty(recipe.Steps);
        foreach (var heading in new[] { "# Goal: ", "\n# For: ", "\n# Effect: " })
            Assert.Contains(heading, text, StringComparison.Ordinal);
        Assert.Contains($"({name})", File.ReadAllText(Path.Combine(Samples, "README.md")), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void A_recipe_on_a_page_is_one(string page)
    {
        foreach (Match block in YamlBlock().Matches(File.ReadAllText(Path.Combine(RealModels.Repository, page))))
            Assert.NotEmpty(RecipeReader.Read(block.Groups[1].Value, page).Steps);
    }

    [GeneratedRegex("^```yaml\n(.*?)^```", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex YamlBlock();
}
