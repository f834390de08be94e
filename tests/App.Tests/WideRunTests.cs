using Azure.Core;
using Microsoft.DurableTask.Testing;
using Microsoft.Extensions.Logging;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>
/// A model of 400 layers on the real Durable Task engine with a real Azurite: its bytes, storage calls, log lines, status and
/// cancellation.
/// </summary>
public class WideRunTests(Azurite azurite, ITestOutputHelper output) : IClassFixture<Azurite>
{
    private const int Layers = 200;
    private static readonly string[] Stages =
    [
        "Inspect",
        "Plan",
        "Calibrate",
        "Compress",
        "correctBias",
        "Reassemble",
        "Evaluate",
        "Publish",
    ];
    private static readonly CancellationToken None = CancellationToken.None;

    [Theory]
    [InlineData("quantize: {bits: 8}", Explicit = true)]
    [InlineData("quantize: {method: static, onlyIfFaster: false}")]
    public async Task It_has_the_bytes_of_the_local_host_in_few_storage_calls_and_log_lines_and_its_status_is_right_at_every_moment(
        string step
    )
    {
        using var folder = new Folder();
        var (calls, logs) = (new CountedCalls(), new CountedLogs());
        await using var run = await WideRun.DropAsync(azurite, folder, step, calls, logs);
        calls.Clear();
        await run.StartAsync();
        var seen = await run.WatchAsync();
        output.WriteLine($"{(double)calls.Total / Layers:0.00} calls a layer, {logs.Informed} lines\n{calls}");

        var local = Path.Combine(folder.Path, "local");
        var options = new LocalOptions(local, folder.Path, null, 1L << 30, Isolated: false);
        await RunDrop.RunAsync(Drop.Of(Path.Combine(folder.Path, "wide"), run.Recipe, null), options, _ => { }, _ => { }, None);
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(local, "model.onnx")), await run.ResultAsync());
        Assert.True(calls.Total <= 4 * Layers + 100, $"{calls.Total} calls");
        Assert.True(logs.Informed <= 2 * Layers, $"{logs.Informed} lines");

        AssertForward(seen);
        foreach (var s in seen.Where(s => Array.IndexOf(Stages, s.Stage) >= Array.IndexOf(Stages, "Compress")))
            Assert.Equal(Layers, s.LayersTotal);
        Assert.Equal(Layers, seen[^1].LayersDone);
        // Within the first part too, and with the layer that was finished last.
        Assert.Contains(seen, s => s is { Stage: "Compress", LayersDone: > 0 and < Layers, Layer: not null, BytesSaved: > 0 });
    }

    [Fact]
    public async Task Cancelled_midway_it_stops_leaves_nothing_and_can_be_asked_for_again()
    {
        using var folder = new Folder();
        using var logs = new CountedLogs();
        await using var run = await WideRun.DropAsync(azurite, folder, "quantize: {bits: 4}", new CountedCalls(), logs, Layers / 2);
        await run.StartAsync();
        await run.UntilAsync(s => s is { Stage: "Compress", LayersDone: > 20 });
        var clock = System.Diagnostics.Stopwatch.StartNew();
        await run.CancelAsync();
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"{clock.Elapsed}");
        output.WriteLine($"cleared after {clock.Elapsed.TotalSeconds:0.0} s");
        Assert.Empty(await run.WorkAsync());
        // Nothing comes after it.
        await Task.Delay(TimeSpan.FromSeconds(3));
        Assert.Empty(await run.WorkAsync());
        await run.StartAgainAsync();
        AssertForward(await run.WatchAsync());
        Assert.NotEmpty(await run.ResultAsync());
    }

    private static void AssertForward(IReadOnlyList<RunStatus> seen)
    {
        Assert.All(seen, s => Assert.Contains(s.Stage, Stages));
        foreach (var (before, after) in seen.Zip(seen.Skip(1)))
        {
            Assert.True(Array.IndexOf(Stages, before.Stage) <= Array.IndexOf(Stages, after.Stage), $"{before.Stage} → {after.Stage}");
            Assert.True(before.LayersDone <= after.LayersDone, $"{before} → {after}");
        }
    }

    private sealed class WideRun(BlobStore store, DurableTaskTestHost engine, DropRequest drop, string recipe) : IAsyncDisposable
    {
        public string Recipe => recipe;

        public static async Task<WideRun> DropAsync(
            Azurite azurite,
            Folder folder,
            string step,
            CountedCalls calls,
            ILoggerFactory logs,
            int layers = Layers
        )
        {
            var store = azurite.Store(o => o.AddPolicy(calls, HttpPipelinePosition.PerRetry), new NetworkOptions { Logs = logs });
            await store.EnsureContainersAsync(["drop", "work", "compressed", "failed"], None);
            var model = folder.Write("wide/wide.onnx", Chain(layers));
            var recipe = folder.Write("wide/recipe.yaml", System.Text.Encoding.UTF8.GetBytes($"version: 1\nsteps:\n- {step}\n"));
            var name = $"wide-{Guid.NewGuid():N}"[..12];
            foreach (var path in new[] { recipe, model })
                await store.WriteBytesAsync($"drop/{name}/{Path.GetFileName(path)}", await File.ReadAllBytesAsync(path), None);
            var engine = await DurableEngine.StartAsync(new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, ""));
            return new WideRun(store, engine, (await DropRequest.OfAsync(store, $"drop/{name}/wide.onnx", null, None))!, recipe);
        }

        public Task StartAsync() => Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), None);

        public Task StartAgainAsync() => Runs.StartAgainAsync(engine.Client, store, drop, None);

        public async Task CancelAsync()
        {
            await Runs.CancelAsync(engine.Client, store, drop.RunId, None);
            await engine.Client.WaitForInstanceCompletionAsync(CancelRun.IdOf(drop.RunId), None);
        }

        public async Task UntilAsync(Func<RunStatus, bool> there)
        {
            while (await ViewAsync() is not { Progress: { } progress } || !there(progress))
                await Task.Delay(20);
        }

        /// <summary>What was shown until the run was done.</summary>
        public async Task<IReadOnlyList<RunStatus>> WatchAsync()
        {
            for (var seen = new List<RunStatus>(); ; await Task.Delay(20))
            {
                var view = await ViewAsync();
                if (view.Progress is { } progress)
                    seen.Add(progress);
                Assert.True(view.State != "Failed", view.Error);
                if (view.State == "Completed")
                    return seen;
            }
        }

        public Task<byte[]> ResultAsync() => store.ReadBytesAsync($"{RunPaths.Output(drop.RunId)}/model.onnx", 1 << 26, None);

        public async Task<IReadOnlyList<string>> WorkAsync()
        {
            var left = new List<string>();
            foreach (var prefix in new[] { $"work/{drop.RunId}/", RunPaths.Cancelled("") })
            await foreach (var a in store.ListAsync(prefix, None))
                left.Add(a.Path);
            return left;
        }

        public ValueTask DisposeAsync() => engine.DisposeAsync();

        private async Task<RunView> ViewAsync() => (await Runs.FindAsync(engine.Client, drop.RunId, None))!;

        private static ModelProto Chain(int layers)
        {
            var model = TestModels.OfOpset(17).Input("x0", TensorProto.Types.DataType.Float, 2, 64);
            for (var i = 0; i < layers; i++)
                model.Weight($"w{i}", 64, 64).With(TestModels.Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
            return model.Output($"x{layers}");
        }
    }
}
