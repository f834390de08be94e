using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Pruning.Structured;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Units cut until the model is as fast as the budget says, by a clock of the tests' own, and once by the machine's.</summary>
public class ShrinkLatencyTests
{
    private static ModelProto Net =>
        OfOpset(17)
            .Input("x", DataType.Float, 4, 64)
            .Weight("w1", 64, 256)
            .Weight("w2", 256, 512)
            .Weight("w3", 512, 128)
            .Weight("w4", 128, 16)
            .With(
                Node("MatMul", ["x", "w1"], ["a"]),
                Node("Relu", ["a"], ["b"]),
                Node("MatMul", ["b", "w2"], ["c"]),
                Node("Relu", ["c"], ["d"]),
                Node("MatMul", ["d", "w3"], ["e"]),
                Node("Relu", ["e"], ["f"]),
                Node("MatMul", ["f", "w4"], ["y"])
            )
            .Output("y");

    // A layer takes as long as its weight is large, and a bit. The table's clock knows of no bit.
    private static double TimeOf(ModelProto model) => model.Graph.Initializer.Sum(t => 20_000 + t.Dims.Aggregate(1.0, (a, b) => a * b));

    private static double? TimeOf(OperatorCall call, CancellationToken cancellation) =>
        call.Operands[1]!.Dims.Aggregate(1.0, (a, b) => a * b) / 1000;

    [Theory]
    [InlineData(0.8, null, 0.8)]
    [InlineData(0.6, null, 0.6)]
    [InlineData(0.6, "{\"by\":\"latency\",\"ratio\":0.5}", 0.5)]
    [InlineData(null, "{\"by\":\"latency\",\"ratio\":0.3}", 0.7)]
    public async Task The_clock_says_what_was_asked_for(double? budget, string? options, double target)
    {
        var (work, figures) = await ShrinkAsync(budget, options ?? "{}");
        var latency = figures.Latency!;
        Assert.Equal(target, latency.Target, 1e-9);
        Assert.Equal(TimeOf(work.Model) / TimeOf(Net), latency.Measured!.Value, 1e-9);
        Assert.InRange(latency.Measured.Value, 0.9 * target, 1.03 * target);
        // The prediction alone would have missed it.
        Assert.True(latency.Predicted < latency.Measured - 0.02, $"{latency}");
        Assert.True(latency.Tries > 1 && latency.TableMeasured > 0 && latency.Layers == 4, $"{latency}");
        Assert.Null(figures.Note);
    }

    [Fact]
    public async Task What_cannot_become_so_fast_is_made_as_fast_as_it_can_and_the_report_says_so()
    {
        var (work, figures) = await ShrinkAsync(0.05, "{}");
        Assert.Equal(TimeOf(work.Model) / TimeOf(Net), figures.Latency!.Measured!.Value, 1e-9);
        Assert.True(figures.Latency.Measured > 0.05);
        Assert.Contains("of the original's latency", figures.Note, StringComparison.Ordinal);
        // All groups went as far as they may.
        Assert.All(figures.Groups, g => Assert.InRange(g.Kept, 1, 0.15 * g.Units));
    }

    [Fact]
    public async Task A_model_that_is_fast_enough_stays_whole()
    {
        var (_, figures) = await ShrinkAsync(1, "{}");
        Assert.All(figures.Groups, g => Assert.Equal(g.Units, g.Kept));
    }

    [Fact]
    public async Task Without_a_step_that_acts_on_it_the_budget_is_judged_all_the_same()
    {
        using var folder = new Folder();
        // Nothing is a millionth as fast, nor is the original twice as slow as itself.
        var missed = await Compressed.RunAsync(
            folder,
            Net,
            "version: 1\nbudget: {maxLatencyRatio: 0.000001}\nevaluate: {samples: 8}\nsteps:\n- simplify: {}\n"
        );
        Assert.Equal(RunResult.OverBudget, missed.Result.Status);
        Assert.Equal((0.000001, false), (missed.Report.Budget!.MaxLatencyRatio, missed.Report.Budget.Met));
        Assert.True(File.Exists(missed.File));
    }

    [Theory(Explicit = true)]
    [InlineData("ch_PP-OCRv4_rec_infer")]
    public async Task A_real_model_meets_it_within_five_percent_when_it_is_measured_again_or_is_over_budget(string name)
    {
        using var folder = new Folder();
        var model = RealModels.File(name);
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "No fonts are installed to render text with.");
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 3, count: 32);
        var recipe = "version: 1\nbudget: {maxLatencyRatio: 0.6}\nevaluate: {samples: 16}\nsteps:\n- shrink: {samples: 16}\n";
        var done = await Compressed.RunAsync(folder, model, recipe, data);
        TestContext.Current.TestOutputHelper?.WriteLine($"{done.Report.Latency} {done.Report.Notes[Shrink.Field]}");
        Assert.Equal(done.Report.Latency!.Ratio <= 0.63, done.Result.Status == RunResult.Succeeded);
        if (done.Result.Status == RunResult.OverBudget)
            return;
        var again = await Compressed.LatencyAsync(model, done.File, data);
        Assert.True(again.RatioLow <= 0.63, $"{done.Report.Latency} {again}");
    }

    private static async Task<(GraphWork Work, Figures Figures)> ShrinkAsync(double? budget, string options)
    {
        using var folder = new Folder();
        var store = new FolderStore(new[] { "drop", "work" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
        await store.WriteBytesAsync("drop/m.onnx", Net.ToByteArray(), default);
        var index = await ModelIndexer.IndexAsync(store, "drop/m.onnx", default);
        var technique = (GraphTechnique)Technique.Of("shrink", "l2");
        var work = new GraphWork(store, index, new Dictionary<string, string>(), "work/state")
        {
            MayRunModel = true,
            Limits = new ModelLimits
            {
                LatencyRatio = budget,
                ShapesAsOf = model =>
                {
                    var facts = new GraphFacts(model).Main;
                    return value => facts.Shape(value)?.Select(d => d.Value!.Value).ToList();
                },
            },
            Trials = new ModelTrials(index, 0, false)
            {
                FolderAsync = _ => throw new InvalidOperationException(),
                ReadAsync = (_, _) => throw new InvalidOperationException(),
                ChangeAsync = (_, _, _) => Task.FromResult<OutputChange?>(null),
                TimeAsync = (m, _) => Task.FromResult<ModelTime?>(new ModelTime(TimeOf(m) / 1000, TimeOf(m) / TimeOf(Net))),
                TimesAsync = _ => Task.FromResult(new OperatorTimes("tests", TimeOf)),
            },
        };
        await technique.ApplyAsync(work, technique.Options(JsonDocument.Parse(options).RootElement), default);
        return (
            work,
            new Figures(
                GraphWork.Noted<ShrinkLatency>(work.Notes, $"{Shrink.Field}Latency"),
                GraphWork.Noted<ShrinkErrors>(work.Notes, Shrink.Field)!.Note,
                GraphWork.Noted<List<GroupShrunk>>(work.Notes, $"{Shrink.Field}Groups")!
            )
        );
    }

    private sealed record Figures(ShrinkLatency? Latency, string? Note, IReadOnlyList<GroupShrunk> Groups);
}
