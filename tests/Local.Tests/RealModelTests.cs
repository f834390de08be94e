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
    public async Task Int8_without_a_recipe(string name)
    {
        using var folder = new Folder();
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.File(name), "--out", "out");
        Assert.True(done.ExitCode == 0, done.Error);
        var model = Path.Combine(folder.Path, "out", "model.onnx");
        using var report = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder.Path, "out", "report.json")));
        var root = report.RootElement;
        Assert.Equal("succeeded", root.GetProperty("status").GetString());
        Assert.True(root.GetProperty("size").GetProperty("ratio").GetDouble() <= 0.30, root.GetProperty("size").ToString());
        Assert.Equal(new FileInfo(model).Length, root.GetProperty("size").GetProperty("after").GetInt64());
        Assert.True(root.GetProperty("fidelity").GetProperty("cosine").GetDouble() >= 0.999, root.GetProperty("fidelity").ToString());
        SameInputsAndOutputs(RealModels.File(name), model);
        Assert.DoesNotContain("DequantizeLinear", TestModels.OptimizedOperators(model).Keys);
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
