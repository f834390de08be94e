using System.Text.Json;
using Microsoft.DurableTask.Client;
using Microsoft.DurableTask.Testing;
using Microsoft.Extensions.Logging.Abstractions;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>The app's triggers on the real Durable Task engine, its blobs and queues on a real Azurite.</summary>
public class AzuriteRunTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;

    [Fact]
    public async Task The_same_drop_events_ten_times_over_are_one_run()
    {
        var (store, host) = await StartAsync();
        await using var engine = await DurableEngine.StartAsync(host);
        foreach (var name in new[] { "digits.onnx", "data.npz" })
            await store.WriteBytesAsync($"drop/ten/{name}", await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, name)), None);
        var triggers = new QueueTriggers(host, NullLogger<QueueTriggers>.Instance);
        await Task.WhenAll(
            Enumerable
                .Range(0, 10)
                .SelectMany(_ => new[] { "digits.onnx", "data.npz" })
                .Select(n => triggers.OnEventAsync(Created($"ten/{n}"), engine.Client, None))
        );
        var id = (await DropRequest.OfAsync(store, "drop/ten/digits.onnx", null, None))!.RunId;
        await FinishedAsync(engine, id);
        // Delivered once more when all is done: still nothing starts.
        await triggers.OnEventAsync(Created("ten/digits.onnx"), engine.Client, None);
        var runs = new List<string>();
        await foreach (var run in engine.Client.GetAllInstancesAsync(new OrchestrationQuery()))
            runs.Add(run.InstanceId);
        Assert.Equal([id], runs);
        Assert.Equal(["data.npz", "digits.onnx"], await NamesAsync(store, "drop/ten/"));
        Assert.Equal(["model.onnx", "recipe.yaml", "report.html", "report.json"], await NamesAsync(store, "compressed/ten/"));
        using var folder = new Folder();
        await RunDrop.RunAsync(
            Drop.Of(RealModels.Digits, null, null),
            new LocalOptions(Path.Combine(folder.Path, "local"), folder.Path, null, 1L << 30, Isolated: false),
            _ => { },
            _ => { },
            None
        );
        Assert.Equal(
            await File.ReadAllBytesAsync(Path.Combine(folder.Path, "local", "model.onnx")),
            await store.ReadBytesAsync($"compressed/ten/{id}/model.onnx", 1 << 24, None)
        );
    }

    [Fact]
    public async Task A_folder_waits_for_the_external_data_it_names_and_a_run_can_be_cancelled()
    {
        var (store, host) = await StartAsync();
        await using var engine = await DurableEngine.StartAsync(host);
        var triggers = new QueueTriggers(host, NullLogger<QueueTriggers>.Instance);
        var tensor = new TensorProto
        {
            Name = "w",
            DataType = 1,
            DataLocation = TensorProto.Types.DataLocation.External,
            Dims = { 64, 64 },
        };
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = "weights.bin" });
        var model = TestModels
            .OfOpset(17)
            .Input("x", TensorProto.Types.DataType.Float, 2, 64)
            .Initializer(tensor)
            .With(TestModels.Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        foreach (var name in new[] { "parts", "never" })
            await store.WriteBytesAsync($"drop/{name}/model.onnx", Google.Protobuf.MessageExtensions.ToByteArray(model), None);
        var early = (await DropRequest.OfAsync(store, "drop/parts/model.onnx", null, None))!.RunId;
        var cancelled = (await DropRequest.OfAsync(store, "drop/never/model.onnx", null, None))!.RunId;
        foreach (var name in new[] { "parts", "never" })
            await triggers.OnEventAsync(Created($"{name}/model.onnx"), engine.Client, None);
        await Task.Delay(TimeSpan.FromSeconds(2));
        Assert.Equal(OrchestrationRuntimeStatus.Running, (await engine.Client.GetInstanceAsync(early))!.RuntimeStatus);
        await store.WriteBytesAsync(
            "drop/parts/weights.bin",
            System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(TestModels.Random("w", 64, 64)).ToArray(),
            None
        );
        await triggers.OnEventAsync(Created("parts/weights.bin"), engine.Client, None);
        var whole = (await DropRequest.OfAsync(store, "drop/parts/weights.bin", null, None))!.RunId;
        await Runs.CancelAsync(engine.Client, store, cancelled, None);
        Assert.Equal("succeeded", (await FinishedAsync(engine, whole)).Status);
        Assert.Equal(DropResult.Superseded, (await FinishedAsync(engine, early)).Status);
        var view = await Runs.FindAsync(engine.Client, cancelled, None);
        Assert.Equal(("Terminated", null, "cancelled"), (view!.State, view.Result, view.Error));
        Assert.Empty(await NamesAsync(store, "compressed/never/"));
        await engine.Client.WaitForInstanceCompletionAsync(
            CancelRun.IdOf(cancelled),
            new CancellationTokenSource(TimeSpan.FromMinutes(1)).Token
        );
        Assert.Empty(await NamesAsync(store, $"work/{cancelled}/"));
        Assert.Empty(await NamesAsync(store, RunPaths.Cancelled("")));
        // Whoever asks for it again gets it again; an event delivered again does not.
        await triggers.OnEventAsync(Created("never/model.onnx"), engine.Client, None);
        Assert.Equal("Terminated", (await Runs.FindAsync(engine.Client, cancelled, None))!.State);
        await Runs.StartAgainAsync(engine.Client, store, (await DropRequest.OfAsync(store, "drop/never/model.onnx", null, None))!, None);
        Assert.Contains((await Runs.FindAsync(engine.Client, cancelled, None))!.State, new[] { "Pending", "Running" });
    }

    [Fact]
    public async Task A_failed_run_says_why_and_starts_again_when_somebody_asks_for_it()
    {
        var (store, host) = await StartAsync();
        await using var engine = await DurableEngine.StartAsync(host);
        await store.WriteBytesAsync("drop/bad/model.onnx", "not a model"u8.ToArray(), None);
        var drop = (await DropRequest.OfAsync(store, "drop/bad/model.onnx", null, None))!;
        await Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), None);
        var first = await FailedAsync();
        Assert.Equal(["error.json"], await NamesAsync(store, $"failed/bad/{drop.RunId}/"));
        // An event delivered again starts nothing, a request does.
        await Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), None);
        Assert.Equal(first.Created, (await FailedAsync()).Created);
        await Runs.StartAgainAsync(engine.Client, store, drop, None);
        Assert.True((await FailedAsync()).Created > first.Created);

        async Task<RunView> FailedAsync()
        {
            await engine.Client.WaitForInstanceCompletionAsync(drop.RunId, new CancellationTokenSource(TimeSpan.FromMinutes(1)).Token);
            var view = (await Runs.FindAsync(engine.Client, drop.RunId, None))!;
            Assert.Equal("Failed", view.State);
            Assert.StartsWith("drop/bad/model.onnx: ", view.Error);
            return view;
        }
    }

    [Fact]
    public async Task Answers_of_a_gpu_job_come_by_queue_and_the_run_goes_on()
    {
        var (store, host) = await StartAsync();
        var steps = StepQueue.Connect(azurite.ConnectionString, GpuWorker.Steps);
        host = host with { Context = host.Context with { GpuSteps = steps, GpuAnswers = GpuWorker.Answers } };
        await using var engine = await DurableEngine.StartAsync(host);
        await store.WriteBytesAsync(
            "drop/gpu/recipe.yaml",
            "version: 1\nsteps:\n- quantize: {bits: 8, device: gpu, timeout: 5}\n"u8.ToArray(),
            None
        );
        await store.WriteBytesAsync(
            "drop/gpu/digits.onnx",
            await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx")),
            None
        );
        var triggers = new QueueTriggers(host, NullLogger<QueueTriggers>.Instance);
        await triggers.OnEventAsync(Created("gpu/digits.onnx"), engine.Client, None);
        // What is no answer is passed over.
        foreach (var wrong in new[] { "", "{", "[]", "null", """{"runId": "", "event": "x"}""", """{"runId": "x", "event": "\ud800"}""" })
            await triggers.OnGpuAnswerAsync(wrong, engine.Client, None);
        var id = (await DropRequest.OfAsync(store, "drop/gpu/digits.onnx", null, None))!.RunId;
        var answers = 0;
        for (
            var end = DateTime.UtcNow.AddMinutes(2);
            !(await engine.Client.GetInstanceAsync(id))!.IsCompleted && DateTime.UtcNow < end;
            await Task.Delay(100)
        )
        {
            await GpuWorker.RunOneAsync(
                steps,
                (name, input, token) => ActivityCatalog.All[name].RunAsync(input, host.Context, token),
                store,
                "cpu",
                TimeSpan.FromSeconds(30),
                None
            );
            await using var answer = await steps.Sibling(GpuWorker.Answers).TryTakeAsync(TimeSpan.FromSeconds(30), None);
            if (answer is null)
                continue;
            await triggers.OnGpuAnswerAsync(answer.Body, engine.Client, None);
            await answer.CompleteAsync(None);
            answers++;
        }
        Assert.Equal("succeeded", (await FinishedAsync(engine, id)).Status);
        Assert.Equal(3, answers);
    }

    private async Task<(BlobStore Store, AppHost Host)> StartAsync()
    {
        var store = azurite.Store();
        await store.EnsureContainersAsync(["drop", "work", "compressed", "failed"], None);
        return (store, new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, ""));
    }

    private static async Task<DropResult> FinishedAsync(DurableTaskTestHost engine, string id)
    {
        var done = await engine.Client.WaitForInstanceCompletionAsync(
            id,
            getInputsAndOutputs: true,
            new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token
        );
        Assert.True(done.RuntimeStatus == OrchestrationRuntimeStatus.Completed, $"{done.RuntimeStatus} {done.FailureDetails}");
        return done.ReadOutputAs<DropResult>()!;
    }

    private static string Created(string blob) =>
        JsonSerializer.Serialize(
            new
            {
                specversion = "1.0",
                type = "Microsoft.Storage.BlobCreated",
                subject = $"/blobServices/default/containers/drop/blobs/{blob}",
            }
        );

    private static async Task<IReadOnlyList<string>> NamesAsync(BlobStore store, string prefix)
    {
        var names = new List<string>();
        await foreach (var a in store.ListAsync(prefix, None))
            names.Add(StorePath.Name(a.Path));
        return names;
    }
}
