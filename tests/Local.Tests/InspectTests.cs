using System.Text.Json;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary><c>inspect</c> on the command line.</summary>
public class InspectTests
{
    [Fact]
    public async Task Inspect_lists_layers_and_reasons()
    {
        using var folder = new Folder();
        var done = await CommandLine.RunAsync(folder.Path, "inspect", RealModels.Digits, "--json");
        Assert.True(done.ExitCode == 0, done.Error);
        using var json = JsonDocument.Parse(done.Output);
        var layers = json.RootElement.GetProperty("layers").EnumerateArray().ToDictionary(l => l.GetProperty("name").GetString()!);
        Assert.True(layers["fc1.weight"].GetProperty("compressed").GetBoolean());
        Assert.Contains("a bias of Gemm", layers["fc1.bias"].GetProperty("reason").GetString());
        Assert.Equal(3, json.RootElement.GetProperty("ops").GetProperty("Gemm").GetInt32());
        Assert.Contains("fc1.weight", (await CommandLine.RunAsync(folder.Path, "inspect", RealModels.Digits)).Output);
    }

    [Fact]
    public async Task Inspect_shows_the_plan_that_the_run_follows()
    {
        using var folder = new Folder();
        var recipe = folder.Write(
            "r.yaml",
            "version: 1\nsteps:\n- factorize: {ratio: 0.6}\n- prune: {sparsity: 0.3}\n- quantize: {bits: 4}\n"u8.ToArray()
        );
        var plan = await CommandLine.RunAsync(folder.Path, "inspect", RealModels.Digits, "--recipe", recipe, "--json");
        var run = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--recipe", recipe, "--out", "out");
        Assert.True(plan.ExitCode == 0 && run.ExitCode == 0, plan.Error + run.Error);
        using var planned = JsonDocument.Parse(plan.Output);
        using var report = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(folder.Path, "out", "report.json")));
        Assert.Equal(Described(report, "shape"), Described(planned, "shape"));
        Assert.Contains("fc2.weight/1 [51,256] factorize: svd, prune: magnitude, quantize: rtn 4 51", Described(planned, "shape"));
        // The form of a pruned layer, and so its bytes, follow from where its zeros are.
        foreach (
            var layer in planned.RootElement.GetProperty("layers").EnumerateArray().Where(l => l.GetProperty("compressed").GetBoolean())
        )
            Assert.True(layer.GetProperty("chosenByRun").GetBoolean() && layer.GetProperty("bytesAfter").ValueKind == JsonValueKind.Null);

        static string[] Described(JsonDocument document, string shape) =>
            [
                .. document
                    .RootElement.GetProperty("layers")
                    .EnumerateArray()
                    .Where(l => l.GetProperty("steps").GetArrayLength() > 0)
                    .Select(l =>
                        $"{l.GetProperty("name")} {l.GetProperty(shape).GetRawText().ReplaceLineEndings("").Replace(" ", "", StringComparison.Ordinal)} "
                        + $"{string.Join(", ", l.GetProperty("steps").EnumerateArray())} {l.GetProperty("bits")} {l.GetProperty("rank")}"
                    )
                    .Order(StringComparer.Ordinal),
            ];
    }

    [Theory]
    [InlineData("quantize: {bits: mixed}", "fc1.weight", 234_752)]
    [InlineData("factorize: {scope: global, ratio: 0.5}", "fc1.weight/1", null)]
    [InlineData("factorize: {energy: 0.9}\n- equalize: {}", "fc1.weight/1", null)]
    public async Task Inspect_leaves_out_figures_that_the_run_chooses(string step, string layer, int? macs)
    {
        using var folder = new Folder();
        var recipe = folder.Write("r.yaml", System.Text.Encoding.UTF8.GetBytes($"version: 1\nsteps:\n- {step}\n"));
        var plan = await CommandLine.RunAsync(folder.Path, "inspect", RealModels.Digits, "--recipe", recipe, "--json");
        Assert.True(plan.ExitCode == 0, plan.Error);
        using var json = JsonDocument.Parse(plan.Output);
        var open = json.RootElement.GetProperty("layers").EnumerateArray().Single(l => l.GetProperty("name").GetString() == layer);
        Assert.True(open.GetProperty("chosenByRun").GetBoolean());
        Assert.Equal(JsonValueKind.Null, open.GetProperty("bytesAfter").ValueKind);
        Assert.Equal(JsonValueKind.Null, open.GetProperty("rank").ValueKind);
        var after = json.RootElement.GetProperty("multiplyAccumulates").GetProperty("after");
        Assert.Equal(macs, after.ValueKind == JsonValueKind.Null ? null : after.GetInt32());
    }

    [Fact]
    public async Task What_is_refused_is_named_as_it_was_given()
    {
        using var folder = new Folder();
        folder.Write("drop/recipe.yaml", "version: 1\nsteps:\n- quantize: {bits: 99}\n"u8.ToArray());
        folder.Write("models/m.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        folder.Write("models/broken.onnx", [8, 7, 58, 200, 1, 10]);
        await Refused("drop/recipe.yaml, line 3: ", "models/m.onnx", "--recipe", "drop/recipe.yaml");
        await Refused("models/../drop/recipe.yaml, line 3: ", "models/m.onnx", "--recipe", "models/../drop/recipe.yaml");
        await Refused("models/broken.onnx: ", "models/broken.onnx");
        Directory.CreateDirectory(Path.Combine(folder.Path, "whole"));
        File.Move(Path.Combine(folder.Path, "models", "broken.onnx"), Path.Combine(folder.Path, "whole", "broken.onnx"));
        await Refused("whole/broken.onnx: ", "whole");

        async Task Refused(string begins, params string[] arguments)
        {
            var done = await CommandLine.RunAsync(folder.Path, ["inspect", .. arguments]);
            Assert.Equal(2, done.ExitCode);
            Assert.StartsWith(begins, done.Error, StringComparison.Ordinal);
        }
    }
}
