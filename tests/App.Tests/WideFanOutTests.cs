using Microsoft.DurableTask;
using Microsoft.DurableTask.Client;
using Microsoft.DurableTask.Testing;
using Serverless.Core.Evaluation;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using Stopwatch = System.Diagnostics.Stopwatch;

namespace Serverless.App.Tests;

/// <summary>2,000 layers on the real Durable Task engine: what the histories grow to, and what orchestrating alone costs.</summary>
public class WideFanOutTests(ITestOutputHelper output)
{
    private const int Layers = 2000;
    private static readonly string[] Containers = ["drop", "work", "compressed", "failed"];

    [Fact]
    public async Task A_model_of_2000_layers_goes_through_with_histories_that_stay_small()
    {
        using var folder = new Folder();
        var store = new FolderStore(Containers.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
        var model = TestModels.OfOpset(17).Input("x0", TensorProto.Types.DataType.Float, 2, 32);
        for (var i = 0; i < Layers; i++)
            model.Weight($"w{i}", 32, 32).With(TestModels.Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        folder.Write("drop/wide.onnx", model.Output($"x{Layers}"));
        await using var engine = await DurableEngine.StartAsync(
            new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, "")
        );
        var drop = (await DropRequest.OfAsync(store, "drop/wide.onnx", null, default))!;
        var run = Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), default);
        var clock = Stopwatch.StartNew();
        await run;
        var done = await engine.Client.WaitForInstanceCompletionAsync(drop.RunId, getInputsAndOutputs: true);
        Assert.True(done.RuntimeStatus == OrchestrationRuntimeStatus.Completed, done.FailureDetails?.ToString());
        output.WriteLine($"{Layers} layers, work included: {clock.Elapsed.TotalSeconds:0.0} s");
        Assert.True(Tell(engine, drop.RunId) < 200);
        var parts = Enumerable
            .Range(0, Layers / CompressLayers.Widest)
            .Select(i =>
                DurableEngine.History(engine, CompressLayers.Part(RunPaths.State($"work/{drop.RunId}", 1), 0, i * CompressLayers.Widest))
            )
            .ToList();
        output.WriteLine($"{parts.Count} parts: at most {parts.Max(p => p.Events)} events, {parts.Max(p => p.Bytes):N0} bytes");
        Assert.All(parts, p => Assert.True(p.Events < 500));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Orchestrating_alone(bool inParts)
    {
        var (request, placement) = (
            new RunRequest("n", "drop/n.onnx", null, null, "work/n-0", "work/layers", "compressed/n/n-0"),
            new StepPlacement()
        );
        var figures = new ComparisonResult("synthetic", 8, 1, 0, null, null, null, 0, null);
        var outputs = new object[]
        {
            new DropState(request, null, false, false),
            new Inspected(1, 1, [], new Budget(null, null, 0)),
            new Planned(Layers, Layers, 1, placement),
            new LayerResult(
                new CompressedLayer(0, "encoder.layers.0.self_attn.q_proj.weight", 4096, 1024, 8, 0.01, 0.1, false, null),
                null
            ),
            new LayersRecorded(1),
            new GpuSent(false),
            new Reassembled(1, 1, 1),
            new Evaluated(figures, 1),
            new Published("compressed/n/n-0"),
            new Notified([]),
            new Cleared(0),
            new FailureWritten(""),
        };
        await using var engine = await DurableEngine.StartAsync(
            new AppHost(new ActivityContext(new FolderStore(new Dictionary<string, string>()), new MemoryGate(1)), null, ""),
            name => outputs.FirstOrDefault(o => o.GetType() == ActivityCatalog.All[name].Output)
        );
        var id = inParts ? "n-0" : "unsplit";
        var clock = Stopwatch.StartNew();
        await engine.Client.ScheduleNewOrchestrationInstanceAsync(
            inParts ? nameof(DropRun) : nameof(CompressLayers),
            inParts ? new DropRequest(id, "drop/n.onnx") : new LayersInput("work/n-0", "work/layers", 0, "0123", 0, Layers, placement),
            new StartOrchestrationOptions(id)
        );
        var done = await engine.Client.WaitForInstanceCompletionAsync(id, getInputsAndOutputs: true);
        Assert.True(done.RuntimeStatus == OrchestrationRuntimeStatus.Completed, done.FailureDetails?.ToString());
        output.WriteLine(
            $"{(inParts ? "in parts of 100" : "in one")}: {clock.Elapsed.TotalSeconds:0.00} s, {clock.Elapsed.TotalMilliseconds / Layers:0.00} ms a layer"
        );
        Tell(engine, id);
    }

    private int Tell(DurableTaskTestHost engine, string id)
    {
        var (events, bytes) = DurableEngine.History(engine, id);
        output.WriteLine($"history of {id}: {events} events, {bytes:N0} bytes");
        return events;
    }
}
