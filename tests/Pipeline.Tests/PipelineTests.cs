using Serverless.Core;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

public class PipelineTests
{
    private static readonly CancellationToken None = CancellationToken.None;

    [Theory]
    [InlineData("ch_PP-OCRv4_rec_infer")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer")]
    public async Task Searched_scales_beat_absolute_maxima_at_equal_size_on_real_models(string name)
    {
        using var folder = new Folder();
        var naive = await Compressed.RunAsync(folder, RealModels.File(name), "version: 1\nsteps:\n- quantize: {bits: 4, scale: absmax}\n");
        var searched = await Compressed.RunAsync(folder, RealModels.File(name), "version: 1\nsteps:\n- quantize: {bits: 4, scale: mse}\n");
        Assert.InRange((double)searched.Result.BytesAfter / naive.Result.BytesAfter, 0.99, 1.01);
        Assert.True(
            searched.Report.Fidelity.Cosine > naive.Report.Fidelity.Cosine,
            $"{searched.Report.Fidelity.Cosine} against {naive.Report.Fidelity.Cosine}"
        );
        var errors = naive.Report.Layers.ToDictionary(l => l.Name, l => l.Error);
        Assert.All(searched.Report.Layers, l => Assert.True(l.Error <= errors[l.Name] * 1.001, l.Name));
    }

    public static TheoryData<string> Names => [.. RealModels.Ocr, .. RealModels.Vad];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Four_bits_are_small_and_near_and_folded_on_real_models(string name)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, RealModels.File(name), "version: 1\npreset: int4\n");
        Assert.Equal("succeeded", done.Report.Status);
        Assert.InRange(done.Report.Size.Ratio, 0, 0.20);
        Assert.Equal(new FileInfo(done.File).Length, done.Report.Size.After);
        Assert.InRange(done.Report.Fidelity.Cosine!.Value, 0.85, 1);
        Assert.DoesNotContain("DequantizeLinear", TestModels.OptimizedOperators(done.File).Keys);
    }

    [Fact]
    public async Task More_bits_for_the_smallest_layers_beat_finer_groups_at_equal_size_on_a_real_model()
    {
        using var folder = new Folder();
        var model = RealModels.File("ch_PP-OCRv4_det_infer");
        var finer = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 8, group: 16, protect: 0}\n");
        var gentler = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 8, group: 32, protect: 0.05}\n");
        Assert.True(gentler.Result.BytesAfter < finer.Result.BytesAfter);
        Assert.True(gentler.Report.Fidelity.RelativeError < finer.Report.Fidelity.RelativeError);
        Assert.Contains(gentler.Report.Layers, l => l.Bits == 16);
    }

    [Fact]
    public async Task Layers_that_did_not_change_are_taken_from_the_last_run()
    {
        using var folder = new Folder();
        var model = TestModels
            .OfOpset(17)
            .Input("x", Core.Model.Schema.TensorProto.Types.DataType.Float, 2, 64)
            .Weight("a", 64, 64)
            .Weight("b", 64, 64)
            .With(TestModels.Node("MatMul", ["x", "a"], ["h"]), TestModels.Node("MatMul", ["h", "b"], ["y"]))
            .Output("y");
        var work = Path.Combine(folder.Path, "work");
        var file = folder.Write("drop/m.onnx", model);
        var first = await Compressed.RunAsync(folder, file, "version: 1\npreset: int8\n", work: work);
        Assert.All(first.Report.Layers, l => Assert.False(l.Reused));
        model.Graph.Initializer[1].RawData = Google.Protobuf.ByteString.CopyFrom(
            System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(TestModels.Random("retrained", 64, 64))
        );
        folder.Write("drop/m.onnx", model);
        var second = await Compressed.RunAsync(folder, file, "version: 1\npreset: int8\n", work: work);
        Assert.Equal([true, false], second.Report.Layers.OrderBy(l => l.Name, StringComparer.Ordinal).Select(l => l.Reused));
    }

    [Fact]
    public async Task A_model_run_in_segments_gives_the_outputs_of_the_whole()
    {
        foreach (var name in new[] { "ch_PP-OCRv4_rec_infer", "silero_vad_v5" })
        {
            var path = RealModels.File(name);
            var store = new FolderStore(new Dictionary<string, string> { ["drop"] = Path.GetDirectoryName(path)! });
            var index = await ModelIndexer.IndexAsync(store, $"drop/{name}.onnx", None);
            var specs = InputSpec.Of(index.Model, name);
            using var whole = new ModelRunner(Path.GetDirectoryName(path)!, index);
            var samples = new[]
            {
                SyntheticInputs.Make(index.Model, specs, 0, 0, name),
                SyntheticInputs.Make(index.Model, specs, 0, 0, name),
            };
            var expected = whole.Run(samples, None);
            using var parts = new ModelRunner(Path.GetDirectoryName(path)!, index, wholeLimit: 0, segmentLimit: 200_000);
            Assert.True(name.StartsWith("silero", StringComparison.Ordinal) || parts.Segments > 5);
            var actual = parts.Run(samples, None);
            var fidelity = new Fidelity();
            for (var i = 0; i < samples.Length; i++)
                fidelity.Add([.. expected[i].Outputs.Keys], expected[i].Outputs, actual[i].Outputs, null);
            Assert.True(fidelity.RelativeError < 1e-4, $"{name}: {fidelity.RelativeError}");
        }
    }

    [Fact]
    public async Task Samples_beside_each_other_give_the_outputs_of_one_at_a_time()
    {
        var path = RealModels.File("ch_PP-OCRv4_rec_infer");
        var store = new FolderStore(new Dictionary<string, string> { ["drop"] = Path.GetDirectoryName(path)! });
        var index = await ModelIndexer.IndexAsync(store, $"drop/{Path.GetFileName(path)}", None);
        var specs = InputSpec.Of(index.Model, index.Path);
        var samples = Enumerable.Range(0, 12).Select(i => SyntheticInputs.Make(index.Model, specs, 0, i, index.Path)).ToList();
        using var together = new ModelRunner(Path.GetDirectoryName(path)!, index);
        using var alone = new ModelRunner(Path.GetDirectoryName(path)!, index, byDefault: true);
        var (actual, expected) = (together.Run(samples, None), alone.Run(samples, None));
        for (var i = 0; i < samples.Count; i++)
        {
            var fidelity = new Fidelity();
            fidelity.Add([.. expected[i].Outputs.Keys], expected[i].Outputs, actual[i].Outputs, null);
            Assert.True(fidelity.RelativeError < 1e-5, $"{i}: {fidelity.RelativeError}");
        }
    }

    [Fact]
    public async Task The_memory_gate_lets_in_what_fits_and_large_work_alone()
    {
        var gate = new MemoryGate(100);
        var first = await gate.EnterAsync(60, None);
        var second = gate.EnterAsync(60, None);
        var third = gate.EnterAsync(1000, None);
        Assert.False(second.IsCompleted);
        first.Dispose();
        using (await second)
        {
            await Task.Delay(20);
            Assert.False(third.IsCompleted);
        }
        using (await third) { }
        using var cancelled = new CancellationTokenSource();
        using var held = await gate.EnterAsync(100, None);
        var waiting = gate.EnterAsync(1, cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
    }

    [Fact]
    public async Task Status_counts_every_layer_and_ends_with_publish_and_the_models_are_timed()
    {
        using var folder = new Folder();
        var statuses = new List<RunStatus>();
        const string Recipe = "version: 1\npreset: int4\nevaluate: {latency: true}\n";
        var done = await Compressed.RunAsync(folder, RealModels.Digits, Recipe, statuses: statuses);
        Assert.True(done.Report.Latency is { BeforeMs: > 0, AfterMs: > 0, RatioLow: > 0 });
        Assert.Equal(["Inspect", "Plan", "Compress", "Reassemble", "Evaluate", "Publish"], statuses.Select(s => s.Stage).Distinct());
        var last = statuses.Last(s => s.Stage == "Compress");
        Assert.Equal((3, 3), (last.LayersDone, last.LayersTotal));
        Assert.Equal(last.BytesTotal, last.BytesDone);
    }

    [Fact]
    public async Task A_model_that_changes_under_a_run_is_refused_never_mixed()
    {
        using var folder = new Folder();
        var path = folder.Write("m.onnx", Mutations.Everything(17));
        var store = folder.Store;
        var tag = (await store.FindAsync("drop/m.onnx", None))!.ETag;
        File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddSeconds(5));
        var e = await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync("drop/m.onnx", tag, None));
        Assert.Contains("changed", e.Message);
    }

    [Fact]
    public async Task Links_that_lead_out_of_the_drop_are_refused()
    {
        using var folder = new Folder();
        using var outside = new Folder();
        outside.Write("secret.bin", new byte[64]);
        File.CreateSymbolicLink(Path.Combine(folder.Path, "w.bin"), Path.Combine(outside.Path, "secret.bin"));
        Directory.CreateSymbolicLink(Path.Combine(folder.Path, "sub"), outside.Path);
        await Assert.ThrowsAsync<BadInputException>(() => folder.Store.OpenAsync("drop/w.bin", null, None));
        await Assert.ThrowsAsync<BadInputException>(() => folder.Store.OpenAsync("drop/sub/secret.bin", null, None));
    }
}
