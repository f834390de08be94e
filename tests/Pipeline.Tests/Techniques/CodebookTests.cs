using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Codebooks of single weights against Han et al. 2016, section 3, and Choi et al. 2017, section 3.3, in double precision.</summary>
public class CodebookTests
{
    private const int K = 96,
        N = 40,
        Samples = 64;

    private static readonly float[] Inputs = [.. Random("x", Samples, K).Select((v, i) => i % K % 16 == 3 ? 30 * v : v)];

    // Without outliers: no cluster begins or gets empty.
    private static readonly float[] Weights = [.. Random("w", K, N).Select(w => MathF.Tanh(8 * w) / 8)];

    private static ModelProto Model =>
        OfOpset(17)
            .Input("x", DataType.Float, 1, K)
            .Initializer(Tensor("w", Weights, K, N))
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");

    [Fact]
    public async Task Values_are_those_of_k_means_from_evenly_spaced_ones()
    {
        using var folder = new Folder();
        var weights = Weights;
        var lowered = await Lowered.Of(folder, Model, "share: {bits: 4, start: linear, protect: 0}");
        var expected = Lloyd(weights, [.. weights.Select(_ => 1.0)], 16);
        Assert.Equal(weights.Select(w => expected.MinBy(c => Math.Abs(c - w))), lowered.LargestWeight.Select(v => (double)v), Near);
    }

    [Fact]
    public async Task Errors_count_by_the_square_of_the_input()
    {
        using var folder = new Folder();
        var weights = Weights;
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [Samples, K], MemoryMarshal.AsBytes<float>(Inputs).ToArray()));
        var file = folder.Write("m.onnx", Model);
        var done = await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- share: {bits: 4, start: linear, protect: 0}\n", data);
        // The samples that are not held out: the first half.
        var squares = Enumerable
            .Range(0, K)
            .Select(k => Enumerable.Range(0, Samples / 2).Sum(s => Math.Pow(Inputs[s * K + k], 2)))
            .ToList();
        var expected = Lloyd(weights, [.. weights.Select((_, i) => squares[i / N] / squares.Average() + 0.01)], 16);
        var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
        var decoded = new Lowered(new Dictionary<string, EncodedLayer>(), [], graph).LargestWeight;
        Assert.Equal(weights.Select(w => expected.MinBy(c => Math.Abs(c - w))), decoded.Select(v => (double)v), Near);
    }

    [Fact]
    public async Task Pruned_weights_stay_zero_alone_and_are_left_out_of_the_file()
    {
        using var folder = new Folder();
        var pruned = await Lowered.Of(folder, Model, "prune: {sparsity: 0.75}");
        var coded = await Lowered.Of(folder, Model, "prune: {sparsity: 0.75}", "share: {bits: 4, protect: 0}");
        Assert.All(pruned.LargestWeight.Zip(coded.LargestWeight), p => Assert.Equal(p.First == 0, p.Second == 0));
        var layer = Assert.Single(coded.Encoded).Value;
        Assert.True(layer is { Form: FormName.Bitmap or FormName.Gap, Grid: CodebookGrid { HasZero: true } });
        var reference = Form.All[layer.Form].Decode(layer, coded.Shards["w"]);
        Assert.Equal(Enumerable.Range(0, K * N).Select(i => reference[i % N * K + i / N]), coded.LargestWeight.Select(v => (double)v));
    }

    [Fact]
    public async Task A_layer_of_few_values_keeps_them_and_takes_fewer_bits()
    {
        using var folder = new Folder();
        float[] values = [-0.5f, 0, 0.125f, 0.25f, 1];
        var weights = Enumerable.Range(0, K * N).Select(i => values[i * 7 % 5]).ToArray();
        var model = Model;
        model.Graph.Initializer[0] = Tensor("w", weights, K, N);
        var lowered = await Lowered.Of(folder, model, "share: {bits: 6, protect: 0}");
        Assert.Equal(weights, lowered.LargestWeight);
        Assert.True(Assert.Single(lowered.Encoded).Value.Grid is CodebookGrid { Bits: 3, Entries: 5 });
    }

    [Fact]
    public async Task Layers_may_share_one_codebook_that_the_file_holds_once()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, K)
            .Weight("v", K, K)
            .Weight("w", K, N)
            .With(Node("MatMul", ["x", "v"], ["z"]), Node("MatMul", ["z", "w"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- share: {bits: 4, scope: global, protect: 0}\n");
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        var book = Assert.Single(graph.Initializer, t => t.DataType == (int)DataType.Float);
        Assert.Equal(16, book.Dims[0]);
        Assert.Equal(2, graph.Node.Count(n => n.OpType == "Gather" && n.Input[0] == book.Name));
        Assert.True(done.Report.Fidelity.Cosine > 0.97, $"{done.Report.Fidelity}");
    }

    [Fact]
    public async Task In_the_branches_of_an_If_codewords_are_looked_up_too()
    {
        foreach (var opset in new[] { 8, 13 })
        foreach (var step in new[] { "share: {bits: 4, protect: 0}", "share: {method: product, bits: 6, protect: 0}" })
        {
            using var folder = new Folder();
            var lowered = await Lowered.Of(folder, BranchModel.Create(opset), step);
            Assert.Equal(4, lowered.Encoded.Count);
            Assert.False(lowered.Optimized.ContainsKey("Gather"), string.Join(' ', lowered.Optimized));
        }
    }

    // Weights alone: no input is looked at. A scale a row is what the uniform codes have too; it fits short rows better.
    [Fact]
    public async Task On_a_real_model_weights_are_nearer_than_with_evenly_spaced_levels()
    {
        using var folder = new Folder();
        var file = RealModels.File("ch_PP-OCRv4_rec_infer");
        var even = await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- quantize: {bits: 4, group: channel, protect: 0}\n");
        var book = await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- share: {bits: 4, scale: row, weigh: none, protect: 0}\n");
        var levels = even.Report.Layers.Where(l => l.Steps.Count > 0).ToDictionary(l => l.Name, l => l.Error);
        var both = book.Report.Layers.Where(l => l.Steps.Count > 0 && levels.ContainsKey(l.Name)).ToList();
        Assert.True(both.Count > 20);
        Assert.True(
            both.Average(l => l.Error) < 0.95 * both.Average(l => levels[l.Name]),
            $"{both.Average(l => l.Error)} {both.Average(l => levels[l.Name])}"
        );
        Assert.True(
            both.Count(l => l.Error <= levels[l.Name]) > 0.7 * both.Count,
            $"{both.Count(l => l.Error <= levels[l.Name])} of {both.Count}"
        );
        Assert.True(book.Report.Size.After < 1.02 * even.Report.Size.After);
    }

    [Fact]
    public async Task On_a_real_model_the_outputs_are_nearer_where_errors_count_by_the_input()
    {
        using var folder = new Folder();
        var (file, data) = (RealModels.File("ch_PP-OCRv4_rec_infer"), Path.Combine(folder.Path, "lines.npz"));
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no fonts to render lines with.");
        TextLines.WriteNpz(data, "x", seed: 11, count: 24);
        Assert.True(await ErrorAsync("hessian") < await ErrorAsync("none"));

        async Task<double> ErrorAsync(string weigh)
        {
            var recipe = $"version: 1\nsteps:\n- share: {{bits: 6, weigh: {weigh}, protect: 0}}\n";
            return await (await Compressed.RunAsync(folder, file, recipe, data)).ErrorAsync(file, data, 12);
        }
    }

    private static bool Near(double a, double b) => Math.Abs(a - b) < 2e-6;

    private static double[] Lloyd(float[] weights, double[] masses, int count)
    {
        double low = weights.Min(),
            high = weights.Max();
        var centers = Enumerable.Range(0, count).Select(c => low + (high - low) * c / (count - 1)).ToArray();
        for (var moved = true; moved; )
        {
            var nearest = weights
                .Select((w, i) => (Value: (double)w, Mass: masses[i], Center: Array.IndexOf(centers, centers.MinBy(c => Math.Abs(c - w)))))
                .ToLookup(w => w.Center);
            double[] next = [.. centers.Select((_, c) => nearest[c].Sum(w => w.Value * w.Mass) / nearest[c].Sum(w => w.Mass))];
            moved = next.Zip(centers).Any(p => Math.Abs(p.First - p.Second) > 1e-12);
            centers = next;
        }
        return centers;
    }
}
