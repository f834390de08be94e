using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Orchestrations are deterministic: given what a run was told, they ask for exactly what it asked for. Each is run once and replayed from
/// its history, cut at every answer.
/// </summary>
public class ReplayTests
{
    private static readonly CancellationToken None = CancellationToken.None;

    public static TheoryData<string> Recipes =>
        [
            "steps:\n- quantize: {bits: 8}\n",
            "budget: {maxAccuracyLoss: 0.002}\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\n",
            "budget: {maxSizeRatio: 0.2}\nsteps:\n- quantize: {method: rtn, bits: mixed}\n",
            "steps:\n- simplify: {}\n- equalize: {}\n- smooth: {}\n- quantize: {method: static, onlyIfFaster: false}\n",
            "steps:\n- prune: {sparsity: 0.5, scope: global}\n- quantize: {method: gptq, samples: 8, bits: 4}\n",
            "steps:\n- factorize: {ratio: 0.5}\n- prune: {sparsity: 0.3}\n- quantize: {bits: 4}\n- correctBias: {samples: 8}\n",
            "budget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}\nretrain: {wait: 3}\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\n",
        ];

    [Theory]
    [MemberData(nameof(Recipes))]
    public async Task A_run_replayed_from_any_point_of_its_history_asks_for_the_same(string recipe)
    {
        using var folder = new Folder();
        foreach (var file in new[] { "digits.onnx", "data.npz" })
            folder.Write($"drop/digits/{file}", File.ReadAllBytes(Path.Combine(RealModels.Digits, file)));
        folder.Write("retrained/m.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        var (history, run, id) = await RecordAsync(folder, "digits/digits.onnx", "digits/recipe.yaml", recipe);
        Assert.Contains(history.Asked, a => a.StartsWith(nameof(CompressLayer), StringComparison.Ordinal));
        Assert.Contains(history.Asked, a => a.StartsWith(nameof(Publish), StringComparison.Ordinal));
        await ReplayedAsync(history, run, id);
    }

    // Two hundred and fifty layers in three parts, each with a history of its own.
    [Fact]
    public async Task The_parts_of_a_wide_run_are_replayed_like_the_whole()
    {
        using var folder = new Folder();
        var model = TestModels.OfOpset(17).Input("x0", TensorProto.Types.DataType.Float, 2, 16);
        for (var i = 0; i < 250; i++)
            model.Weight($"w{i}", 16, 16).With(TestModels.Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        folder.Write("drop/wide/m.onnx", model.Output("x250"));
        var (history, run, id) = await RecordAsync(folder, "wide/m.onnx", "wide/recipe.yaml", "steps:\n- quantize: {protect: 0}\n");
        Assert.Equal(3, history.Parts.Count);
        await ReplayedAsync(history, run, id);
        foreach (var (part, runPart, partId) in history.Parts)
        {
            Assert.True(part.Asked.Count >= 50, $"{part.Asked.Count}");
            await ReplayedAsync(part, runPart, partId);
        }
    }

    // What it is told by a broken history it must not take for its own.
    [Fact]
    public async Task An_orchestration_that_looks_beside_its_host_is_found_out()
    {
        var odd = 0;
        Task<string> Run(IOrchestration host) => OddAsync(host, odd++);
        var host = new RecordingHost("odd");
        await host.RunAsync(Run);
        Assert.Null(await WhyNotAsync(host.History, h => OddAsync(h, 0), "odd"));
        Assert.Contains("did not ask for sleep 00:00:00", await WhyNotAsync(host.History, Run, "odd"));
        await Assert.ThrowsAsync<InvalidOperationException>(() =>
            new RecordingHost("waits").RunAsync(async _ =>
            {
                await Task.Delay(Timeout.Infinite);
                return "";
            })
        );

        static async Task<string> OddAsync(IOrchestration host, int seconds)
        {
            await host.SleepAsync(TimeSpan.FromSeconds(seconds));
            return "done";
        }
    }

    private static async Task<(RecordedHistory History, Func<IOrchestration, Task<string>> Run, string Id)> RecordAsync(
        Folder folder,
        string model,
        string recipeFile,
        string recipe
    )
    {
        folder.Write($"drop/{recipeFile}", System.Text.Encoding.UTF8.GetBytes($"version: 1\nevaluate: {{latency: false}}\n{recipe}"));
        var store = new FolderStore(
            new[] { "drop", "work", "compressed", "failed", "retrained" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c))
        );
        var drop = (await DropRequest.OfAsync(store, $"drop/{model}", null, None))!;
        async Task<string> Run(IOrchestration host) => RecordingHost.Written(await new DropRun().RunAsync(host, drop));
        var events = 0;
        var host = new RecordingHost(
            drop.RunId,
            (_, _) =>
                Task.FromResult(
                    events++ switch
                    {
                        0 => "{}",
                        1 => RecordingHost.Written(new RetrainedModel("retrained/m.onnx", drop.RunId)),
                        _ => null,
                    }
                )
        )
        {
            Context = new ActivityContext(store, new MemoryGate(1L << 30)),
        };
        await host.RunAsync(Run);
        return (host.History, Run, drop.RunId);
    }

    private static async Task ReplayedAsync(RecordedHistory history, Func<IOrchestration, Task<string>> run, string id) =>
        Assert.Null(await WhyNotAsync(history, run, id));

    /// <summary>What a replay does otherwise; null for nothing.</summary>
    private static async Task<string?> WhyNotAsync(RecordedHistory history, Func<IOrchestration, Task<string>> run, string id)
    {
        // Once whole, and once up to each answer.
        for (var count = history.Answers.Count; count >= 0; count--)
        {
            var host = new RecordingHost(id);
            var replayed = host.Replay(run, history, count);
            if (replayed.IsFaulted)
                return replayed.Exception!.InnerException!.Message;
            if (!host.History.Asked.SequenceEqual(history.Asked.Take(history.AskedBy[count])))
                return $"after {count} answers: {string.Join('\n', host.History.Asked.Except(history.Asked))}";
            if (count < history.Answers.Count)
            {
                if (replayed.IsCompleted)
                    return $"it ended after {count} answers of {history.Answers.Count}";
                continue;
            }
            if (await replayed != history.Output || !host.History.Lines.SequenceEqual(history.Lines))
                return $"it ended as {await replayed}, saying {string.Join('\n', host.History.Lines)}";
        }
        // Whichever of those that run beside each other ends first.
        for (var seed = 0; seed < 3; seed++)
        {
            var host = new RecordingHost(id);
            var output = await host.ReplayInAnyOrder(run, history, new Random(seed));
            if (output != history.Output || !host.History.Asked.Order().SequenceEqual(history.Asked.Order()))
                return $"in another order: {string.Join('\n', host.History.Asked.Except(history.Asked))}";
        }
        return null;
    }
}
