using System.Text.Json;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>The command line on real models: small enough, near enough, and run by stock ONNX Runtime with the same inputs.</summary>
public class RealModelTests
{
    public static TheoryData<string> Names => [.. RealModels.Ocr, .. RealModels.Vad];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Int8_and_int4(string name)
    {
        using var folder = new Folder();
        foreach (
            var (output, recipe, ratio, cosine) in new[]
            {
                ("int8", null, 0.30, 0.999),
                ("int4", "version: 1\npreset: int4\nevaluate: {latency: false}\n", 0.20, 0.85),
            }
        )
        {
            string[] args = ["compress", RealModels.File(name), "--out", Path.Combine(folder.Path, output)];
            if (recipe is not null)
                args = [.. args, "--recipe", folder.Write("recipe.yaml", System.Text.Encoding.UTF8.GetBytes(recipe))];
            var done = await CommandLine.RunAsync(folder.Path, args);
            Assert.True(done.ExitCode == 0, done.Error);
            using var report = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder.Path, output, "report.json")));
            var root = report.RootElement;
            Assert.Equal("succeeded", root.GetProperty("status").GetString());
            Assert.True(root.GetProperty("size").GetProperty("ratio").GetDouble() <= ratio, root.GetProperty("size").ToString());
            Assert.Equal(
                new FileInfo(Path.Combine(folder.Path, output, "model.onnx")).Length,
                root.GetProperty("size").GetProperty("after").GetInt64()
            );
            Assert.True(root.GetProperty("fidelity").GetProperty("cosine").GetDouble() >= cosine, root.GetProperty("fidelity").ToString());
            SameInputsAndOutputs(RealModels.File(name), Path.Combine(folder.Path, output, "model.onnx"));
            Assert.DoesNotContain("DequantizeLinear", TestModels.OptimizedOperators(Path.Combine(folder.Path, output, "model.onnx")).Keys);
        }
    }

    private static void SameInputsAndOutputs(string before, string after)
    {
        using var a = new Microsoft.ML.OnnxRuntime.InferenceSession(before);
        using var b = new Microsoft.ML.OnnxRuntime.InferenceSession(after);
        Assert.Equal(a.InputNames, b.InputNames);
        Assert.Equal(a.OutputNames, b.OutputNames);
        foreach (var name in a.InputNames)
            Assert.Equal(a.InputMetadata[name].Dimensions, b.InputMetadata[name].Dimensions);
    }
}
