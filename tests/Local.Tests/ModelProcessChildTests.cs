using System.Diagnostics;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Local.Tests;

/// <summary>The child's side of a model process, spoken to as its parent does.</summary>
public class ModelProcessChildTests
{
    private static readonly RunRequest Run = new("m", "drop/m.onnx", null, null, "work/r", "work/layers", "out/r");

    [Fact]
    public async Task Storage_that_does_not_answer_is_a_failure_that_may_pass()
    {
        // Nobody listens on the discard port.
        var storage = StoreSpec.Of("DefaultEndpointsProtocol=http;AccountName=a;AccountKey=QUFBQQ==;BlobEndpoint=http://127.0.0.1:9/a;");
        Assert.Equal("transient", await FailureAsync(nameof(Evaluate), storage, new EvaluateInput(Run, 0)));
    }

    [Fact]
    public async Task An_object_of_the_work_that_is_missing_is_damage()
    {
        using var folder = new Folder();
        folder.Write(
            "m.onnx",
            OfOpset(17).Input("x", DataType.Float, 1, 16).Weight("w", 16, 16).With(Node("MatMul", ["x", "w"], ["y"])).Output("y")
        );
        Assert.Equal("damaged", await FailureAsync(nameof(Evaluate), Places(folder), new EvaluateInput(Run, 0)));
    }

    [Fact]
    public async Task Only_activities_that_run_models_are_served()
    {
        using var folder = new Folder();
        Assert.Equal("failed", await FailureAsync(nameof(ClearWork), Places(folder), new ClearInput("work/r")));
    }

    [Fact]
    public async Task A_child_over_its_memory_ends_by_itself()
    {
        using var folder = new Folder();
        using var child = Start();
        await TellAsync(child, nameof(Evaluate), Places(folder), new EvaluateInput(Run, 0), memory: 1 << 20);
        await child.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Assert.Equal(71, child.ExitCode);
    }

    [Fact]
    public async Task A_child_whose_parent_is_gone_before_it_was_told_ends()
    {
        using var child = Start();
        child.StandardInput.Close();
        await child.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Assert.Equal(73, child.ExitCode);
    }

    [Fact]
    public async Task A_child_started_early_rehearses_and_then_answers()
    {
        using var folder = new Folder();
        using var child = Start(Directory.CreateDirectory(Path.Combine(folder.Path, "rehearsal")).FullName);
        var request = await Rehearsal.PrepareAsync(folder.Path, CancellationToken.None);
        foreach (var _ in Enumerable.Range(0, 2))
        {
            await TellAsync(child, request.Activity, request.Store, request.Input, memory: 4L << 30);
            var answer = JsonDocument.Parse((await child.StandardOutput.ReadLineAsync())!).RootElement;
            Assert.Equal("none", answer.GetProperty("failure").GetString());
            Assert.Equal(1, answer.GetProperty("output").GetProperty("figures").GetProperty("cosine").GetDouble());
            Assert.True(answer.GetProperty("waits").GetBoolean());
            Assert.False(Directory.Exists(Path.Combine(folder.Path, "rehearsal")));
        }
        child.StandardInput.Close();
        await child.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Assert.Equal(73, child.ExitCode);
    }

    [Fact]
    public async Task Limits_are_those_of_the_request_that_is_answered()
    {
        using var folder = new Folder();
        using var child = Start();
        var request = await Rehearsal.PrepareAsync(folder.Path, CancellationToken.None);
        await TellAsync(child, request.Activity, request.Store, request.Input, memory: 4L << 30);
        Assert.NotNull(await child.StandardOutput.ReadLineAsync());
        await TellAsync(child, request.Activity, request.Store, request.Input, memory: 1 << 20);
        await child.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Assert.Equal(71, child.ExitCode);
    }

    private static StoreSpec Places(Folder folder) =>
        new(
            new Dictionary<string, string>
            {
                ["drop"] = folder.Path,
                ["work"] = Path.Combine(folder.Path, "work"),
                ["out"] = Path.Combine(folder.Path, "out"),
            }
        );

    private static async Task<string> FailureAsync<TInput>(string activity, StoreSpec store, TInput input)
    {
        using var child = Start();
        await TellAsync(child, activity, store, input, memory: 4L << 30);
        var answer = await child.StandardOutput.ReadToEndAsync();
        await child.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token);
        Assert.Equal(0, child.ExitCode);
        return JsonDocument.Parse(answer).RootElement.GetProperty("failure").GetString()!;
    }

    private static async Task TellAsync<TInput>(Process child, string activity, StoreSpec store, TInput input, long memory)
    {
        await child.StandardInput.WriteLineAsync(
            JsonSerializer.Serialize(
                new
                {
                    activity,
                    input,
                    store,
                    memoryLimit = memory,
                },
                Json.Options
            )
        );
        await child.StandardInput.FlushAsync();
    }

    private static Process Start(params string[] more) =>
        Process.Start(
            new ProcessStartInfo("dotnet", [typeof(ExitCode).Assembly.Location, ModelProcess.Command, .. more])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
}
