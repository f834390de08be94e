using System.Text;
using System.Text.Json;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>How much is compared, and whether anything is.</summary>
public class EvaluateTests
{
    [Fact]
    public async Task As_many_samples_as_the_recipe_says_are_compared_and_the_time_is_told_apart()
    {
        using var folder = new Folder();
        var recipe = folder.Write("r.yaml", "version: 1\npreset: int8\nevaluate: {samples: 40, latency: false}\n"u8.ToArray());
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--recipe", recipe, "--out", "out");
        Assert.True(done.ExitCode == 0, done.Error);
        Assert.Contains("(evaluating ", done.Output, StringComparison.Ordinal);
        var root = Report(folder);
        Assert.Equal(40, root.GetProperty("fidelity").GetProperty("samples").GetInt32());
        Assert.Equal(JsonValueKind.Null, root.GetProperty("latency").ValueKind);
        var stages = root.GetProperty("stages").EnumerateArray().ToDictionary(s => s.GetProperty("stage").GetString()!);
        Assert.Equal(["Inspect", "Plan", "Compress", "Reassemble", "Evaluate"], stages.Keys);
        Assert.True(stages["Compress"].GetProperty("bytesPerSecond").GetDouble() > 0);
        var (evaluated, compressed) = (root.GetProperty("evaluateSeconds").GetDouble(), root.GetProperty("compressSeconds").GetDouble());
        Assert.Equal(stages["Evaluate"].GetProperty("seconds").GetDouble(), evaluated);
        Assert.Equal(root.GetProperty("elapsedSeconds").GetDouble(), evaluated + compressed, 9);
    }

    [Fact]
    public async Task Without_a_comparison_no_model_is_run_and_the_result_says_so()
    {
        using var folder = new Folder();
        var plain = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "plain");
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "out", "--no-evaluate");
        Assert.True(done.ExitCode == 0, done.Error);
        Assert.DoesNotContain("Evaluate", done.Error, StringComparison.Ordinal);
        Assert.Contains("Warning: The result was not run and not compared with the original (--no-evaluate).", done.Output);
        Assert.Equal("none", Report(folder).GetProperty("fidelity").GetProperty("source").GetString());
        Assert.Equal(Model(folder, "plain"), Model(folder, "out"));
        var recipe = folder.Write("r.yaml", "version: 1\nsteps:\n- quantize: {method: static, samples: 8}\n"u8.ToArray());
        var integer = await CommandLine.RunAsync(
            folder.Path,
            "compress",
            RealModels.Digits,
            "--recipe",
            recipe,
            "--out",
            "static",
            "--no-evaluate"
        );
        Assert.Contains("nor timed: integer kernels stay", integer.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_loss_budget_without_a_comparison_is_refused()
    {
        using var folder = new Folder();
        var text = "version: 1\npreset: int8\nbudget: {maxAccuracyLoss: 0.1}\n";
        var recipe = folder.Write("r.yaml", Encoding.UTF8.GetBytes(text));
        var done = await CommandLine.RunAsync(
            folder.Path,
            "compress",
            RealModels.Digits,
            "--recipe",
            recipe,
            "--out",
            "out",
            "--no-evaluate"
        );
        Assert.Equal(ExitCode.BadInput, done.ExitCode);
        Assert.Equal(
            $"{recipe}: maxAccuracyLoss is judged by comparing the models; leave --no-evaluate or the budget out.",
            done.Error.TrimEnd().Split('\n')[^1]
        );
    }

    private static JsonElement Report(Folder folder) =>
        JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder.Path, "out", "report.json"))).RootElement;

    private static byte[] Model(Folder folder, string output) => File.ReadAllBytes(Path.Combine(folder.Path, output, "model.onnx"));
}
