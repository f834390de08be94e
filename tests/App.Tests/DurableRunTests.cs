using System.Text.Json;
using Microsoft.DurableTask.Client;
using Serverless.Core;
using Serverless.Core.Events;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>The app's own functions on the real Durable Task engine.</summary>
public class DurableRunTests
{
    [Theory]
    [InlineData("digits", "version: 1\npreset: int8\n")]
    [InlineData("ch_PP-OCRv4_rec_infer", "version: 1\npreset: int4\n")]
    [InlineData("silero_vad_v5", "version: 1\npreset: int8\n", Explicit = true)]
    public async Task A_real_model_gives_the_bytes_of_the_local_host(string name, string recipe)
    {
        using var folder = new Folder();
        var store = Store(folder);
        var model = name == "digits" ? Path.Combine(RealModels.Digits, "digits.onnx") : RealModels.File(name);
        folder.Write("drop/m/model.onnx", await File.ReadAllBytesAsync(model));
        var recipeFile = folder.Write("drop/m/recipe.yaml", System.Text.Encoding.UTF8.GetBytes(recipe));
        await using var engine = await DurableEngine.StartAsync(
            new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, "")
        );
        var drop = (await DropRequest.OfAsync(store, "drop/m/model.onnx", null, default))!;
        // The same event ten times.
        await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), default)));
        var done = await engine.Client.WaitForInstanceCompletionAsync(drop.RunId, getInputsAndOutputs: true);
        Assert.True(done.RuntimeStatus == OrchestrationRuntimeStatus.Completed, done.FailureDetails?.ToString());
        var output = folder.Path + $"/compressed/m/{drop.RunId}";
        Assert.Equal(
            ["model.onnx", "recipe.yaml", "report.html", "report.json"],
            Directory.GetFiles(output).Select(Path.GetFileName).Order()
        );
        var local = Path.Combine(folder.Path, "local");
        await RunDrop.RunAsync(
            Drop.Of(Path.Combine(folder.Path, "drop", "m"), recipeFile, null),
            new LocalOptions(local, folder.Path, null, 1L << 30, Isolated: false),
            _ => { },
            _ => { },
            default
        );
        Assert.Equal(
            await File.ReadAllBytesAsync(Path.Combine(local, "model.onnx")),
            await File.ReadAllBytesAsync(Path.Combine(output, "model.onnx"))
        );
        var view = await Runs.FindAsync(engine.Client, drop.RunId, default);
        Assert.Equal(("Completed", "succeeded"), (view!.State, view.Result!.Status));
        Assert.Equal("Publish", view.Progress!.Stage);
    }

    [Fact]
    public async Task A_hook_delivered_twice_is_taken_once_by_the_run_that_waits()
    {
        const string secret = "0123456789abcdef0123456789abcdef";
        using var folder = new Folder();
        var store = Store(folder);
        var digits = await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx"));
        folder.Write("drop/m/model.onnx", digits);
        folder.Write(
            "drop/m/recipe.yaml",
            "version: 1\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\nbudget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}\nretrain: {wait: 3}\nevaluate: {latency: false}\n"u8.ToArray()
        );
        folder.Write("retrained/same.onnx", digits);
        var flat = ModelProto.Parser.ParseFrom(digits);
        foreach (var t in flat.Graph.Initializer.Where(t => t.Dims.Count > 1))
            t.RawData = Google.Protobuf.ByteString.CopyFrom(new byte[t.RawData.Length]);
        folder.Write("retrained/flat.onnx", flat);
        var inspected = 0;
        await using var engine = await DurableEngine.StartAsync(
            new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, secret),
            name =>
            {
                if (name == nameof(Inspect))
                    Interlocked.Increment(ref inspected);
                return null;
            }
        );
        var drop = (await DropRequest.OfAsync(store, "drop/m/model.onnx", null, default))!;
        await Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), default);
        var same = await DecideAsync("retrained/same.onnx");
        // The answer of the first was lost, say.
        foreach (var decision in new[] { same, same, await DecideAsync("retrained/flat.onnx") })
            await decision.CarryOutAsync(store, token => Runs.CarryOutAsync(engine.Client, decision, token), default);
        var done = await engine.Client.WaitForInstanceCompletionAsync(
            drop.RunId,
            getInputsAndOutputs: true,
            new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token
        );
        Assert.Equal("succeeded", done.ReadOutputAs<DropResult>()!.Status);
        Assert.Equal(3, inspected);
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => DecideAsync("retrained/same.onnx"));

        async Task<IntakeDecision> DecideAsync(string model)
        {
            var (body, now) = (
                JsonSerializer.SerializeToUtf8Bytes(new RetrainedModel(model, drop.RunId), Json.Options),
                DateTimeOffset.UnixEpoch.AddYears(60)
            );
            var signature = WebhookSignature.Sign(secret, now.ToUnixTimeSeconds(), body);
            return await Intake.OfHookAsync(store, secret, $"{now.ToUnixTimeSeconds()}", signature, body, now, default);
        }
    }

    private static FolderStore Store(Folder folder) =>
        new(new[] { "drop", "work", "compressed", "failed", "retrained" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
}
