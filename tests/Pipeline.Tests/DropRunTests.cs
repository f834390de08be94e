using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Model.Schema;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>From a drop to its result, as the cloud host runs it, with time that passes at once.</summary>
public sealed class DropRunTests : IDisposable
{
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly Folder folder = new();
    private readonly FolderStore store;

    public DropRunTests() =>
        store = new(new[] { "drop", "work", "compressed", "failed", "retrained" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Missing_data_is_waited_for_and_its_arrival_is_another_drop_that_succeeds()
    {
        var weights = External("drop/big/model.onnx");
        var early = (await DropRequest.OfAsync(store, "drop/big/model.onnx", null, None))!;
        var host = Host(
            early,
            sleeping: async slept =>
            {
                if (slept == 4)
                    await store.WriteBytesAsync("drop/big/weights.bin", weights, None);
            }
        );
        var first = await new DropRun().RunAsync(host, early);
        Assert.Equal(DropResult.Superseded, first.Status);
        Assert.Equal([10, 20, 40, 80, 160], host.Slept.Select(s => s.TotalSeconds));
        Assert.Contains(host.Lines, l => l.Contains("weights.bin", StringComparison.Ordinal));
        var whole = (await DropRequest.OfAsync(store, "drop/big/weights.bin", null, None))!;
        Assert.NotEqual(early.RunId, whole.RunId);
        var second = Host(whole);
        Assert.Equal("succeeded", (await new DropRun().RunAsync(second, whole)).Status);
        Assert.Equal([DropRun.Settling], second.Slept);
        Assert.Equal(["model.onnx", "recipe.yaml", "report.html", "report.json"], await NamesAsync($"compressed/big/{whole.RunId}/"));
        Assert.Empty(await NamesAsync("failed/"));
        Assert.DoesNotContain(await NamesAsync("work/"), n => n.Contains("graph.pb", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Data_that_never_comes_is_a_failure_that_says_which()
    {
        External("drop/big/model.onnx");
        var drop = (await DropRequest.OfAsync(store, "drop/big/model.onnx", null, None))!;
        var host = Host(drop);
        await Assert.ThrowsAsync<BadInputException>(() => new DropRun().RunAsync(host, drop));
        Assert.InRange(host.Slept.Sum(s => s.TotalHours), DropRun.Patience.TotalHours, DropRun.Patience.TotalHours + 0.1);
        Assert.All(host.Slept, s => Assert.True(s <= DropRun.LongestPause));
        var error = JsonDocument.Parse(await store.ReadBytesAsync($"failed/big/{drop.RunId}/error.json", 10_000, None)).RootElement;
        Assert.Equal(("failed", drop.RunId), (error.GetProperty("status").GetString(), error.GetProperty("runId").GetString()));
        Assert.Contains("weights.bin", error.GetProperty("error").GetString());
    }

    [Fact]
    public async Task A_folder_that_grows_while_it_settles_is_left_to_its_next_version()
    {
        folder.Write("drop/m/model.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        var drop = (await DropRequest.OfAsync(store, "drop/m/model.onnx", null, None))!;
        var host = Host(
            drop,
            sleeping: _ =>
            {
                folder.Write("drop/m/recipe.yaml", "version: 1\npreset: int4\n"u8.ToArray());
                return Task.CompletedTask;
            }
        );
        Assert.Equal(DropResult.Superseded, (await new DropRun().RunAsync(host, drop)).Status);
        Assert.DoesNotContain("Inspect", host.Calls);
    }

    [Fact]
    public async Task What_cannot_be_read_leaves_one_sentence_in_failed()
    {
        folder.Write("drop/junk.onnx", [1, 2, 3, 4]);
        var drop = (await DropRequest.OfAsync(store, "drop/junk.onnx", null, None))!;
        await Assert.ThrowsAsync<BadInputException>(() => new DropRun().RunAsync(Host(drop), drop));
        var error = JsonDocument
            .Parse(await store.ReadBytesAsync($"failed/junk/{drop.RunId}/error.json", 10_000, None))
            .RootElement.GetProperty("error")
            .GetString()!;
        Assert.StartsWith("drop/junk.onnx", error);
        Assert.Empty(await NamesAsync("compressed/"));
    }

    [Fact]
    public async Task A_failure_that_cannot_be_written_down_stays_what_it_is()
    {
        folder.Write("drop/junk.onnx", [1, 2, 3, 4]);
        var drop = (await DropRequest.OfAsync(store, "drop/junk.onnx", null, None))!;
        var host = new VirtualOrchestration(drop.RunId, Context())
        {
            Before = name => name == nameof(WriteFailure) ? throw new IOException("the storage is down") : Task.CompletedTask,
        };
        Assert.StartsWith(
            "drop/junk.onnx",
            (await Assert.ThrowsAsync<BadInputException>(() => new DropRun().RunAsync(host, drop))).Message
        );
        Assert.Contains(host.Lines, l => l.Contains("the storage is down", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_time_to_wait_the_best_attempt_is_published_as_over_budget()
    {
        var drop = await DigitsAsync("budget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}");
        var host = Host(drop);
        var result = await new DropRun().RunAsync(host, drop);
        Assert.Equal("over-budget", result.Status);
        Assert.NotNull(await store.FindAsync($"compressed/digits/{drop.RunId}/report.json", None));
    }

    [Fact]
    public async Task Retrained_weights_are_waited_for_and_gone_on_from()
    {
        var drop = await DigitsAsync("budget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}\nretrain: {wait: 3}");
        var waits = new List<TimeSpan>();
        var host = new VirtualOrchestration(drop.RunId, Context())
        {
            Raised = async (name, timeout) =>
            {
                Assert.Equal(CompressionRun.RetrainedEvent, name);
                waits.Add(timeout);
                if (waits.Count == 1)
                    return """{"model": ""}""";
                // The student that the event names is there to start from.
                Assert.Contains(await NamesAsync($"work/{drop.RunId}/"), n => n == "model.onnx");
                // What comes back compresses without loss: weights of nothing but zeros.
                var flat = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
                foreach (var t in flat.Graph.Initializer.Where(t => t.Dims.Count > 1))
                    t.RawData = Google.Protobuf.ByteString.CopyFrom(new byte[t.RawData.Length]);
                folder.Write("retrained/digits.onnx", flat);
                return JsonSerializer.Serialize(new RetrainedModel("retrained/digits.onnx", drop.RunId), Json.Options);
            },
        };
        var result = await new DropRun().RunAsync(host, drop);
        Assert.Equal("succeeded", result.Status);
        Assert.Equal([TimeSpan.FromHours(3), TimeSpan.FromHours(3)], waits);
        Assert.Equal(2, host.Calls.Count(c => c == nameof(Inspect)));
        Assert.Single(host.Calls, c => c == nameof(Publish));
    }

    [Fact]
    public async Task Retrained_weights_that_never_come_leave_the_best_attempt()
    {
        var drop = await DigitsAsync("budget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}\nretrain: {wait: 0.5}");
        var host = Host(drop);
        var before = host.UtcNow;
        Assert.Equal("over-budget", (await new DropRun().RunAsync(host, drop)).Status);
        Assert.InRange(host.UtcNow - before, TimeSpan.FromMinutes(30), TimeSpan.FromMinutes(31));
    }

    [Fact]
    public async Task A_retrained_model_follows_its_predecessors_recipe_and_takes_over_layers_that_did_not_change()
    {
        var drop = await DigitsAsync("");
        await new DropRun().RunAsync(Host(drop), drop);
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        var changed = model.Graph.Initializer.Single(t => t.Name == "fc2.weight");
        changed.RawData = Google.Protobuf.ByteString.CopyFrom(
            System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(TestModels.Random("retrained", 128, 256))
        );
        folder.Write("retrained/digits.onnx", model);
        var body = JsonSerializer.SerializeToUtf8Bytes(new RetrainedModel("retrained/digits.onnx", null, drop.RunId), Json.Options);
        var now = DateTimeOffset.UtcNow;
        const string secret = "0123456789abcdef0123456789abcdef";
        var signature = Core.Events.WebhookSignature.Sign(secret, now.ToUnixTimeSeconds(), body);
        var decision = await Intake.OfHookAsync(store, secret, $"{now.ToUnixTimeSeconds()}", signature, body, now, None);
        var next = decision.Start!;
        Assert.Equal("succeeded", (await new DropRun().RunAsync(Host(next), next)).Status);
        var report = await store.ReadJsonAsync<Report>($"compressed/digits/{next.RunId}/report.json", None);
        Assert.Equal($"compressed/digits/{drop.RunId}", report.Predecessor);
        Assert.Equal(2, report.LayersReused);
        Assert.Equal([false], report.Layers.Where(l => l.Name == "fc2.weight").Select(l => l.Reused));
        var recipe = System.Text.Encoding.UTF8.GetString(
            await store.ReadBytesAsync($"compressed/digits/{next.RunId}/recipe.yaml", 10_000, None)
        );
        Assert.Contains("bits: 2", recipe);
    }

    private async Task<DropRequest> DigitsAsync(string more)
    {
        folder.Write("drop/digits/digits.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        folder.Write(
            "drop/digits/recipe.yaml",
            System.Text.Encoding.UTF8.GetBytes(
                $"version: 1\nevaluate: {{latency: false}}\nsteps:\n- quantize: {{bits: 2, scale: absmax, protect: 0}}\n{more}\n"
            )
        );
        return (await DropRequest.OfAsync(store, "drop/digits/digits.onnx", null, None))!;
    }

    // A model whose weights are in a file that has not come yet.
    private byte[] External(string path)
    {
        var bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(TestModels.Random("w", 64, 64)).ToArray();
        var tensor = new TensorProto
        {
            Name = "w",
            DataType = 1,
            DataLocation = TensorProto.Types.DataLocation.External,
            Dims = { 64, 64 },
        };
        foreach (var (key, value) in new[] { ("location", "weights.bin"), ("offset", "0"), ("length", "16384") })
            tensor.ExternalData.Add(new StringStringEntryProto { Key = key, Value = value });
        folder.Write(
            path,
            TestModels
                .OfOpset(17)
                .Input("x", TensorProto.Types.DataType.Float, 2, 64)
                .Initializer(tensor)
                .With(TestModels.Node("MatMul", ["x", "w"], ["y"]))
                .Output("y")
        );
        return bytes;
    }

    private ActivityContext Context() => new(store, new MemoryGate(1L << 30));

    private VirtualOrchestration Host(DropRequest drop, Func<int, Task>? sleeping = null)
    {
        var slept = 0;
        return new VirtualOrchestration(drop.RunId, Context()) { Sleeping = _ => sleeping?.Invoke(slept++) ?? Task.CompletedTask };
    }

    private async Task<IReadOnlyList<string>> NamesAsync(string prefix)
    {
        var names = new List<string>();
        await foreach (var a in store.ListAsync(prefix, None))
            names.Add(StorePath.Name(a.Path));
        return names;
    }
}
