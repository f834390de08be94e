using System.Collections.Concurrent;
using System.Text.Json;
using Google.Protobuf;
using Serverless.Core;
using Serverless.Core.Model.Schema;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;

namespace Serverless.Pipeline.Tests;

/// <summary>Every step runs where the recipe places it, and no other with it.</summary>
public class PlacementTests
{
    [Fact]
    public async Task A_step_for_the_gpu_between_two_others_is_sent_alone()
    {
        using var folder = new Folder();
        var containers = new[] { "drop", "work", "compressed", "failed" };
        var store = new FolderStore(containers.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
        var model = OfOpset(17)
            .Input("x", TensorProto.Types.DataType.Float, 3, 64)
            .Weight("w", 64, 48)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        await store.WriteBytesAsync("drop/m.onnx", model.ToByteArray(), default);
        await store.WriteBytesAsync(
            "drop/m.yaml",
            "version: 1\nevaluate: {latency: false}\nsteps:\n- factorize: {rank: 8}\n- prune: {sparsity: 0.25, device: gpu}\n- quantize: {bits: 8, protect: 0}\n"u8.ToArray(),
            default
        );
        var context = new ActivityContext(store, new MemoryGate(1 << 30));
        var (sent, answers) = (new ConcurrentQueue<GpuStep>(), new ConcurrentDictionary<string, Task<string>>());
        var host = new VirtualOrchestration("m-0", context)
        {
            Instead = (name, input) =>
            {
                if (name != nameof(SendGpuStep))
                    return null;
                var step = ((GpuSend)input).Step;
                sent.Enqueue(step);
                answers[step.Event] = AnswerAsync(step, context);
                return new GpuSent(true);
            },
            Raised = async (name, _) => await answers[name],
        };
        var request = new RunRequest("m", "drop/m.onnx", "drop/m.yaml", null, "work/m-0", "work/layers", "compressed/m/m-0");
        await new CompressionRun().RunAsync(host, request);

        // The two factors, pruned: at the state that factorize left, and nothing else.
        Assert.Equal(2, sent.Count);
        Assert.All(sent, s => Assert.Equal(nameof(CompressLayer), s.Activity));
        Assert.All(sent, s => Assert.EndsWith("state-02", s.Input.GetProperty("work").GetString(), StringComparison.Ordinal));
        // Here: the matrix factorized, and both factors quantized.
        Assert.Equal(3, host.Calls.Count(c => c == nameof(CompressLayer)));
        var report = await store.ReadJsonAsync<Report>("compressed/m/m-0/report.json", default);
        Assert.All(report.Layers, l => Assert.Equal(["factorize: svd", "prune: magnitude", "quantize: rtn"], l.Steps));
        Assert.All(report.Layers, l => Assert.InRange(l.Sparsity, 0.24, 0.4));
    }

    private static async Task<string> AnswerAsync(GpuStep step, ActivityContext context)
    {
        var input = step.Input.Deserialize<CompressInput>(Json.Options)!;
        var output = await context.RunAsync<CompressLayer, CompressInput, LayerResult>(input, default);
        var json = JsonSerializer.SerializeToElement(output, Json.Options);
        return JsonSerializer.Serialize(new GpuAnswer(step.RunId, step.Event, json, null, false, "cuda"), Json.Options);
    }
}
