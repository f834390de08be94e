using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Pruned layers are stored without their zeros, decode to the same weights, and leave nothing to decode at a run.</summary>
public class SparseFormTests
{
    private static readonly Dictionary<string, Func<int, ModelProto>> Models = new()
    {
        ["MatMul"] = o =>
            OfOpset(o).Input("x", DataType.Float, 3, 100).Weight("w", 100, 72).With(Node("MatMul", ["x", "w"], ["y"])).Output("y"),
        ["Gemm"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 3, 96)
                .Weight("w", 70, 96)
                .Weight("c", 70)
                .With(Node("Gemm", ["x", "w", "c"], ["y"], ModelEdit.Attribute("transB", 1)))
                .Output("y"),
        ["Conv"] = o =>
            OfOpset(o).Input("x", DataType.Float, 1, 33, 9, 9).Weight("w", 37, 33, 3, 3).With(Node("Conv", ["x", "w"], ["y"])).Output("y"),
    };

    private static readonly string?[] Methods =
    [
        null,
        "method: float16",
        "bits: 8, protect: 0",
        "bits: 8, symmetric: false, protect: 0",
        "bits: 16, protect: 0",
        "bits: 4, symmetric: false, group: 16, protect: 0",
        "bits: 4, group: channel, protect: 0",
        "bits: 3, protect: 0",
        "bits: 5, symmetric: false, protect: 0",
        "method: hqq, bits: 4, protect: 0",
        "method: ternary, protect: 0",
        "method: fixed, protect: 0",
    ];

    public static TheoryData<string, int> Cases =>
        [.. Models.Keys.SelectMany(m => new[] { 9, 11, 21 }.Select(o => new TheoryDataRow<string, int>(m, o)))];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Nodes_decode_what_the_reference_decodes_and_are_folded(string op, int opset)
    {
        var forms = new HashSet<string>();
        foreach (var method in Methods)
        foreach (var sparsity in new[] { 0.4, 0.7, 0.95 })
        {
            using var folder = new Folder();
            string[] steps = [$"prune: {{sparsity: {sparsity}}}", .. method is null ? [] : new[] { $"quantize: {{{method}}}" }];
            var lowered = await Lowered.Of(folder, Models[op](opset), steps);
            var layer = lowered.Encoded["w"];
            if (layer.Sparse is null)
                continue;
            forms.Add(layer.Form);
            var expected = Stored(layer, Form.All[layer.Form].Decode(layer, lowered.Shards["w"]));
            Assert.Equal(layer.Nonzero, expected.Count(v => v != 0));
            Assert.True(expected.Count(v => v == 0) >= sparsity * 0.99 * expected.Length);
            Same(expected, lowered.LargestWeight, $"{op} {opset} {method} {sparsity} {layer.Form}");
            Assert.Equal([op], lowered.Optimized.Keys.Select(k => k == "FusedMatMul" ? "MatMul" : k));
        }
        Assert.Equal([FormName.Bitmap, FormName.Gap], forms.Order());
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public async Task Floats_come_back_to_the_bit(double sparsity)
    {
        using var folder = new Folder();
        var lowered = await Lowered.Of(folder, Models["Gemm"](13), $"prune: {{sparsity: {sparsity}}}");
        var weights = Random("w", 70, 96);
        var least = weights.Select(Math.Abs).Order().ElementAt((int)(sparsity * weights.Length));
        Assert.Equal(weights.Select(w => Math.Abs(w) < least ? 0 : w), lowered.LargestWeight);
    }

    // Runs of 16 weights are zero together: their places take a bit each.
    [Theory]
    [InlineData(0.5)]
    [InlineData(0.97)]
    public async Task Blocks_of_zeros_are_left_out_together(double sparsity)
    {
        using var folder = new Folder();
        var weights = Random("w", 96, 256);
        for (var i = 0; i < weights.Length; i++)
            if ((i / 16 * 37 % 101) < 101 * sparsity)
                weights[i] = 0;
        var model = OfOpset(13)
            .Input("x", DataType.Float, 2, 96)
            .Initializer(Tensor("w", DataType.Float, MemoryMarshal.AsBytes(weights.AsSpan()).ToArray(), 96, 256))
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var lowered = await Lowered.Of(folder, model, $"prune: {{sparsity: {sparsity - 0.02}}}");
        var layer = lowered.Encoded["w"];
        Assert.Equal(16, layer.Sparse!.Unit);
        Assert.Equal(weights, lowered.LargestWeight);
        Assert.True(layer.Bytes < weights.Length * 4 * (1 - sparsity) * 1.03 + 100);
    }

    // Of what is not zero, a sign is left: a bit for the place and one for each weight that stays.
    [Theory]
    [InlineData(0.5)]
    [InlineData(0.8)]
    public async Task Ternary_weights_are_places_and_signs(double sparsity)
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 2, 256)
            .Weight("w", 256, 256)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var lowered = await Lowered.Of(folder, model, $"prune: {{sparsity: {sparsity}}}", "quantize: {method: ternary, protect: 0}");
        var layer = lowered.Encoded["w"];
        Assert.True(layer.Sparse!.Signs);
        Assert.True(layer.Nonzero <= (1 - sparsity) * 256 * 256 + 1);
        Assert.InRange(8 * (layer.Bytes - layer.Grid.Bytes), 60_000, 256 * 256 + layer.Nonzero + 64);
        var decoded = Form.All[layer.Form].Decode(layer, lowered.Shards["w"]);
        Same(Stored(layer, decoded), lowered.LargestWeight, $"{sparsity}");
        Assert.Equal(["MatMul"], lowered.Optimized.Keys);
    }

    // The mask's entropy and that of values that are all different: as few bytes as any code of single weights takes on average.
    [Theory]
    [InlineData(0.5, 32, 1.02)]
    [InlineData(0.7, 32, 1.02)]
    [InlineData(0.9, 32, 1.04)]
    [InlineData(0.5, 8, 1.05)]
    [InlineData(0.7, 8, 1.08)]
    [InlineData(0.9, 8, 1.15)]
    [InlineData(0.99, 8, 1.15)]
    public async Task Bytes_are_near_the_entropy_of_mask_and_values(double sparsity, int bits, double most)
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 2, 512)
            .Weight("w", 512, 512)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        string[] steps =
        [
            $"prune: {{sparsity: {sparsity}}}",
            .. bits == 8 ? new[] { "quantize: {bits: 8, group: channel, protect: 0}" } : [],
        ];
        var layer = (await Lowered.Of(folder, model, steps)).Encoded["w"];
        var entropy = -sparsity * Math.Log2(sparsity) - (1 - sparsity) * Math.Log2(1 - sparsity);
        var least = 512 * 512 * (entropy + (1 - sparsity) * bits) / 8;
        Assert.InRange((layer.Bytes - layer.Grid.Bytes) / least, 1, most);
        var estimated = SparseBytes.Estimate(512 * 512, 1 - sparsity, bits, Store.Balanced)!.Value - 600;
        Assert.InRange(estimated / (double)(layer.Bytes - layer.Grid.Bytes), 0.98, 1.02);
    }

    [Fact]
    public async Task What_gains_nothing_stays_dense_and_says_so()
    {
        using var folder = new Folder();
        foreach (var (opset, sparsity, why) in new[] { (8, 0.9, "operator set 8"), (13, 0.02, "without zeros it would take") })
        {
            var layer = (await Lowered.Of(folder, Models["MatMul"](opset), $"prune: {{sparsity: {sparsity}}}")).Encoded["w"];
            Assert.Equal(FormName.Dense, layer.Form);
            Assert.StartsWith($"stored dense: {why}", layer.Fallback);
        }
    }

    [Fact]
    public async Task Zeros_are_left_out_where_a_step_on_the_model_follows_and_in_branches()
    {
        using var folder = new Folder();
        var model = OfOpset(13).Input("x", DataType.Float, 3, 64).Input("c", DataType.Bool, 1);
        var (then, other) = (Branch("then"), Branch("else"));
        model.With(Node("If", ["c"], ["y"], Attribute("then_branch", then), Attribute("else_branch", other))).Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- prune: {sparsity: 0.8}\n- equalize: {}\n");
        Assert.Equal(2, done.Report.Layers.Count);
        Assert.All(done.Report.Layers, l => Assert.True(l.Form is FormName.Bitmap or FormName.Gap && l.BytesAfter < 0.3 * l.BytesBefore));
        Assert.All(done.Report.Layers, l => Assert.Equal(["prune: magnitude"], l.Steps));
        Assert.All(done.Report.Layers, l => Assert.Equal(0.8, l.Sparsity, 0.001));
        Assert.True(done.Report.Size.Ratio < 0.4);

        static GraphProto Branch(string name)
        {
            var graph = new GraphProto { Name = name };
            graph.Initializer.Add(Tensor($"{name}_w", Random(name, 64, 80), 64, 80));
            graph.Node.Add(Node("MatMul", ["x", $"{name}_w"], [$"{name}_y"]));
            graph.Output.Add(Value($"{name}_y", DataType.Float));
            return graph;
        }

        static AttributeProto Attribute(string name, GraphProto graph) =>
            new()
            {
                Name = name,
                Type = AttributeProto.Types.AttributeType.Graph,
                G = graph,
            };
    }

    // Put together at load, they are the constants that integer kernels read.
    [Theory]
    [InlineData("static", "QGemm")]
    [InlineData("dynamic", "DynamicQuantizeMatMul")]
    public async Task Integer_kernels_read_codes_whose_zeros_are_not_in_the_file(string method, string kernel)
    {
        using var folder = new Folder();
        var (digits, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var step = $"- quantize: {{method: {method}, onlyIfFaster: false}}\n";
        var alone = await Compressed.RunAsync(folder, digits, $"version: 1\nsteps:\n{step}", data);
        var both = await Compressed.RunAsync(
            folder,
            digits,
            $"version: 1\nsteps:\n- prune: {{method: wanda, sparsity: 0.5}}\n{step}",
            data
        );
        Assert.True(both.Report.Size.After < 0.66 * alone.Report.Size.After, $"{both.Report.Size} {alone.Report.Size}");
        Assert.True(both.Report.Fidelity.Cosine > 0.985, both.Report.Fidelity.ToString());
        var (before, after) = (Kernels(alone), Kernels(both));
        Assert.True(before.GetValueOrDefault(kernel) > 1, string.Join(' ', before));
        Assert.Equal(before, after);

        static Dictionary<string, int> Kernels(Compressed done) =>
            IntegerWork.Optimized(done.File, out _).CountBy(n => n.OpType).OrderBy(p => p.Key, StringComparer.Ordinal).ToDictionary();
    }

    [Theory]
    [InlineData("conv", 0.5)]
    [InlineData("conv", 0.9)]
    [InlineData("lstm", 0.7)]
    public async Task Integer_codes_of_convolutions_and_recurrent_layers_are_put_together_in_their_own_order(string kind, double sparsity)
    {
        using var folder = new Folder();
        var model = OfOpset(13);
        if (kind == "lstm")
            model
                .Input("x", DataType.Float, 5, 2, 48)
                .Weight("w", 1, 160, 48)
                .Weight("r", 1, 160, 40)
                .With(Node("LSTM", ["x", "w", "r"], ["y"], ModelEdit.Attribute("hidden_size", 40)))
                .Output("y");
        else
            model
                .Input("x", DataType.Float, 1, 48, 9, 9)
                .Weight("w", 48, 48, 3, 3)
                .Weight("v", 40, 48, 3, 3)
                .With(Node("Conv", ["x", "w"], ["h"]), Node("Relu", ["h"], ["a"]), Node("Conv", ["a", "v"], ["y"]))
                .Output("y");
        var prune = $"prune: {{sparsity: {sparsity}}}";
        var quantize =
            kind == "lstm" ? "quantize: {method: dynamic, onlyIfFaster: false}" : "quantize: {method: static, onlyIfFaster: false}";
        var pruned = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- {prune}\n");
        var both = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- {prune}\n- {quantize}\n");
        Assert.Contains(both.Report.Layers, l => l.Form is FormName.Qdq or FormName.Dynamic && l.BytesAfter < 0.8 * l.BytesBefore / 4);
        Assert.True(both.Report.Size.After < pruned.Report.Size.After);
        Assert.Equal(pruned.Report.Fidelity.RelativeError!.Value, both.Report.Fidelity.RelativeError!.Value, 0.03);
    }

    [Fact]
    public async Task A_kernel_keeps_its_codes_unless_the_store_is_small()
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 3, 768)
            .Weight("w", 768, 704)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        foreach (var bits in new[] { 4, 8 })
        {
            var recipe =
                $"version: 1\nstore: balanced\nsteps:\n- prune: {{sparsity: 0.9}}\n- quantize: {{bits: {bits}, group: 64, protect: 0}}\n";
            var balanced = await Compressed.RunAsync(folder, model, recipe);
            var small = await Compressed.RunAsync(folder, model, recipe.Replace("balanced", "small"));
            Assert.Equal(FormName.MatMulNBits, Assert.Single(balanced.Report.Layers).Form);
            Assert.Contains("store: small", balanced.Report.Layers[0].Fallback);
            Assert.Contains(Assert.Single(small.Report.Layers).Form, new[] { FormName.Gap, FormName.Bitmap });
            Assert.True(small.Report.Size.After < 0.6 * balanced.Report.Size.After);
            Assert.Equal(balanced.Report.Layers[0].Error, small.Report.Layers[0].Error, 0.02);
        }
    }

    private static double[] Stored(EncodedLayer layer, double[] view)
    {
        var shape = layer.Shape;
        var stored = new double[view.Length];
        for (var row = 0; row < shape.Rows; row++)
        for (var k = 0; k < shape.Axis; k++)
            stored[(row / shape.Inner * shape.Axis + k) * shape.Inner + row % shape.Inner] = view[row * shape.Axis + k];
        return layer.Grid is Core.Grids.FloatGrid ? view : stored;
    }

    private static void Same(double[] expected, float[] decoded, string what)
    {
        Assert.Equal(expected.Length, decoded.Length);
        var most = expected.Max(Math.Abs);
        for (var i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - decoded[i]) <= 1e-6 * most && (expected[i] != 0 || decoded[i] == 0), $"{what} at {i}");
    }
}
