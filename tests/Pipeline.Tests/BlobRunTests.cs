using Azure.Core;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Whole runs on a real Azurite: over a bad network, and under a drop that changes.</summary>
public class BlobRunTests(Azurite azurite) : IClassFixture<Azurite>
{
    private const string Recipe = "version: 1\npreset: int8\nevaluate: {latency: false}\n";
    private static readonly CancellationToken None = CancellationToken.None;

    [Theory]
    [InlineData("digits")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", Explicit = true)]
    public async Task One_call_in_ten_fails_and_the_bytes_are_those_of_folders(string name)
    {
        var container = await ContainersAsync(name);
        var faults = new Faults(0.1, hangs: true);
        var network = new NetworkOptions
        {
            FirstPause = TimeSpan.FromMilliseconds(5),
            LongestPause = TimeSpan.FromMilliseconds(50),
            AttemptTimeout = TimeSpan.FromSeconds(1),
        };
        var store = azurite.Store(o => o.AddPolicy(faults, HttpPipelinePosition.PerRetry), network);
        var model = Model(name);
        await store.WriteBytesAsync($"drop/{container}/m.onnx", await File.ReadAllBytesAsync(model), None);
        await store.WriteBytesAsync($"drop/{container}/recipe.yaml", System.Text.Encoding.UTF8.GetBytes(Recipe), None);
        var drop = (await DropRequest.OfAsync(store, $"drop/{container}/m.onnx", null, None))!;
        var result = await new DropRun().RunAsync(new VirtualOrchestration(drop.RunId, Context(store)), drop);
        Assert.Equal("succeeded", result.Status);
        Assert.True(faults.Injected >= faults.Calls / 20 && faults.Injected > 5, $"{faults.Injected} of {faults.Calls} calls failed");
        Assert.Equal(
            await ExpectedAsync(model),
            await azurite.Store().ReadBytesAsync($"compressed/{container}/{drop.RunId}/model.onnx", 1 << 24, None)
        );
    }

    [Theory]
    [InlineData(nameof(Inspect))]
    [InlineData(nameof(Plan))]
    [InlineData(nameof(CompressLayer))]
    [InlineData(nameof(Reassemble))]
    [InlineData(nameof(Evaluate))]
    public async Task A_blob_overwritten_before_any_step_fails_the_run_and_starts_another(string step)
    {
        var name = $"overwritten-{step}".ToLowerInvariant();
        var store = azurite.Store();
        await ContainersAsync(name);
        var (first, second) = (Model("digits"), Model("lenet"));
        await store.WriteBytesAsync($"drop/{name}.onnx", await File.ReadAllBytesAsync(first), None);
        var drop = (await DropRequest.OfAsync(store, $"drop/{name}.onnx", null, None))!;
        var done = 0;
        var host = new VirtualOrchestration(drop.RunId, Context(store))
        {
            Before = async called =>
            {
                if (called == step && Interlocked.Exchange(ref done, 1) == 0)
                    await store.WriteBytesAsync($"drop/{name}.onnx", await File.ReadAllBytesAsync(second), None);
            },
        };
        var failure = await Assert.ThrowsAsync<BadInputException>(() => new DropRun().RunAsync(host, drop));
        Assert.Contains($"drop/{name}.onnx", failure.Message);
        Assert.Contains("changed", failure.Message);
        Assert.Null(await store.FindAsync($"compressed/{name}/{drop.RunId}/report.json", None));
        Assert.NotNull(await store.FindAsync($"failed/{name}/{drop.RunId}/error.json", None));
        var next = (await DropRequest.OfAsync(store, $"drop/{name}.onnx", null, None))!;
        Assert.NotEqual(drop.RunId, next.RunId);
        Assert.Equal("succeeded", (await new DropRun().RunAsync(new VirtualOrchestration(next.RunId, Context(store)), next)).Status);
        Assert.Equal(await ExpectedAsync(second), await store.ReadBytesAsync($"compressed/{name}/{next.RunId}/model.onnx", 1 << 24, None));
    }

    [Fact]
    public async Task A_blob_overwritten_once_all_was_read_leaves_the_whole_of_the_old_one()
    {
        var store = azurite.Store();
        await ContainersAsync("late");
        var first = Model("digits");
        await store.WriteBytesAsync("drop/late.onnx", await File.ReadAllBytesAsync(first), None);
        var drop = (await DropRequest.OfAsync(store, "drop/late.onnx", null, None))!;
        var host = new VirtualOrchestration(drop.RunId, Context(store))
        {
            Before = async called =>
            {
                if (called == nameof(Publish))
                    await store.WriteBytesAsync("drop/late.onnx", new byte[] { 1 }, None);
            },
        };
        Assert.Equal("succeeded", (await new DropRun().RunAsync(host, drop)).Status);
        Assert.Equal(await ExpectedAsync(first), await store.ReadBytesAsync($"compressed/late/{drop.RunId}/model.onnx", 1 << 24, None));
    }

    private static ActivityContext Context(IArtifactStore store) => new(store, new MemoryGate(1L << 30));

    private static string Model(string name) =>
        name is "digits" or "lenet" ? Path.Combine(RealModels.Repository, "tests", "models", name, $"{name}.onnx") : RealModels.File(name);

    private static async Task<byte[]> ExpectedAsync(string model)
    {
        using var folder = new Folder();
        return await File.ReadAllBytesAsync((await Compressed.RunAsync(folder, model, Recipe)).File);
    }

    private async Task<string> ContainersAsync(string name)
    {
        await azurite.Store().EnsureContainersAsync(["drop", "work", "compressed", "failed"], None);
        return name.Replace('.', '-');
    }
}
