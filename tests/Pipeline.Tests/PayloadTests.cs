using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>What orchestrations carry stays small, however many layers a model has and however long its names are.</summary>
public class PayloadTests
{
    private const int Largest = 16 << 10;

    [Theory]
    [InlineData(400, 10, "w")]
    [InlineData(150, 30_000, "w")]
    [InlineData(3, 300_000, "重")]
    public async Task Payloads_stay_under_16_KB(int layers, int nameLength, string letter)
    {
        using var folder = new Folder();
        var store = new FolderStore(
            new[] { "drop", "work", "compressed", "failed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c))
        );
        folder.Write("drop/wide.onnx", Chain(layers, string.Concat(Enumerable.Repeat(letter, nameLength))));
        var drop = (await DropRequest.OfAsync(store, "drop/wide.onnx", null, default))!;
        var host = new VirtualOrchestration(drop.RunId, new ActivityContext(store, new MemoryGate(1L << 30)));
        Assert.Equal("succeeded", (await new DropRun().RunAsync(host, drop)).Status);
        Assert.Equal(layers, host.Calls.Count(c => c == nameof(CompressLayer)));
        Assert.Equal(
            layers > CompressLayers.Widest ? (layers + CompressLayers.Widest - 1) / CompressLayers.Widest : 0,
            host.Calls.Count(c => c.Contains(':', StringComparison.Ordinal))
        );
        Assert.All(host.Largest, l => Assert.True(l.Value < Largest, $"{l.Key}: {l.Value} bytes"));
        Assert.Contains("CompressLayer out", host.Largest.Keys);
    }

    private static ModelProto Chain(int layers, string name)
    {
        var model = TestModels.OfOpset(17).Input("x0", TensorProto.Types.DataType.Float, 2, 32);
        for (var i = 0; i < layers; i++)
            model.Weight($"{name}{i}", 32, 32).With(TestModels.Node("MatMul", [$"x{i}", $"{name}{i}"], [$"x{i + 1}"]));
        return model.Output($"x{layers}");
    }
}
