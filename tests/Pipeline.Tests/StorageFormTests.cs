using Google.Protobuf;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Every operator, opset and option: stock ONNX Runtime runs the result, near the original, with nothing left to decode at each run.
/// </summary>
public class StorageFormTests
{
    private static readonly string[] Decoding = ["DequantizeLinear", "Mod", "BitShift", "ScatterElements"];

    internal static readonly Dictionary<string, Func<int, ModelProto>> Models = new()
    {
        ["MatMul"] = o =>
            OfOpset(o).Input("x", DataType.Float, 3, 100).Weight("w", 100, 24).With(Node("MatMul", ["x", "w"], ["y"])).Output("y"),
        ["MatMul large"] = o =>
            OfOpset(o).Input("x", DataType.Float, 3, 768).Weight("w", 768, 704).With(Node("MatMul", ["x", "w"], ["y"])).Output("y"),
        ["MatMul batched"] = o =>
            OfOpset(o).Input("x", DataType.Float, 4, 3, 64).Weight("w", 4, 64, 24).With(Node("MatMul", ["x", "w"], ["y"])).Output("y"),
        ["Gemm"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 3, 96)
                .Weight("w", 96, 40)
                .Weight("c", 40)
                .With(Node("Gemm", ["x", "w", "c"], ["y"]))
                .Output("y"),
        ["Gemm large transB"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 3, 768)
                .Weight("w", 704, 768)
                .Weight("c", 704)
                .With(Node("Gemm", ["x", "w", "c"], ["y"], ModelEdit.Attribute("transB", 1)))
                .Output("y"),
        ["Gemm large alpha beta"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 3, 768)
                .Weight("w", 768, 704)
                .Weight("c", 704)
                .With(Node("Gemm", ["x", "w", "c"], ["y"], ModelEdit.Attribute("alpha", 0.5f), ModelEdit.Attribute("beta", 2f)))
                .Output("y"),
        ["Conv"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 1, 13, 9, 9)
                .Weight("w", 17, 13, 3, 3)
                .Weight("b", 17)
                .With(Node("Conv", ["x", "w", "b"], ["y"]))
                .Output("y"),
        ["Conv depthwise"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 1, 65, 9, 9)
                .Weight("w", 65, 1, 3, 3)
                .With(Node("Conv", ["x", "w"], ["y"], ModelEdit.Attribute("group", 65)))
                .Output("y"),
        ["ConvTranspose"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 1, 24, 5, 5)
                .Weight("w", 24, 12, 2, 2)
                .With(Node("ConvTranspose", ["x", "w"], ["y"], ModelEdit.Attribute("strides", 2L, 2L)))
                .Output("y"),
        ["Gather"] = o =>
            OfOpset(o).Input("i", DataType.Int64, 1, 5).Weight("w", 70, 37).With(Node("Gather", ["w", "i"], ["y"])).Output("y"),
        ["LSTM"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 6, 1, 40)
                .Weight("w", 1, 128, 40)
                .Weight("r", 1, 128, 32)
                .With(Node("LSTM", ["x", "w", "r"], ["y"], ModelEdit.Attribute("hidden_size", 32)))
                .Output("y"),
        ["GRU"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 6, 1, 40)
                .Weight("w", 1, 96, 40)
                .Weight("r", 1, 96, 32)
                .With(Node("GRU", ["x", "w", "r"], ["y"], ModelEdit.Attribute("hidden_size", 32)))
                .Output("y"),
        ["Transposed and shared"] = o =>
            OfOpset(o)
                .Input("x", DataType.Float, 3, 64)
                .Weight("w", 64, 64)
                .With(Node("Transpose", ["w"], ["t"]), Node("MatMul", ["x", "t"], ["z"]), Node("MatMul", ["z", "w"], ["y"]))
                .Output("y"),
    };

    public static TheoryData<string> Operators => [.. Models.Keys];

    private static readonly (string Options, double LeastCosine)[] Methods =
    [
        ("bits: 8, group: channel", 0.9995),
        ("bits: 8", 0.9998),
        ("bits: 8, symmetric: false", 0.9998),
        ("bits: 16", 0.99999),
        ("bits: 4", 0.98),
        ("bits: 4, symmetric: false, group: 16", 0.985),
        ("bits: 4, group: channel, scale: mse", 0.9),
        ("bits: 2, symmetric: false", 0.75),
        ("bits: 2, scale: mse, group: 16", 0.8),
        ("bits: 3", 0.9),
        ("bits: 5, symmetric: false", 0.99),
        ("bits: 6", 0.995),
        ("method: hqq, bits: 4", 0.98),
        ("method: hqq, bits: 3, group: 16", 0.9),
        ("method: ternary", 0.6),
        ("method: ternary, scales: two", 0.6),
        ("method: binary", 0.45),
        ("method: binary, order: 3", 0.85),
        ("method: fixed", 0.999),
        ("method: float16", 0.99999),
    ];

    // What the runtime decodes, at load or in a kernel, is what the grid's formula in double precision says.
    [Theory]
    [MemberData(nameof(Operators))]
    public async Task Nodes_decode_what_the_reference_decodes(string op)
    {
        // A kernel reads the codes of large Gemms; their other forms are those of the large MatMul.
        if (op is "LSTM" or "GRU" or "Gather" or "Transposed and shared" || op.StartsWith("Gemm large", StringComparison.Ordinal))
            return;
        foreach (var (options, _) in Methods)
        {
            using var folder = new Folder();
            var lowered = await Lowered.Of(
                folder,
                Models[op](13),
                $"quantize: {{{options}, protect: 0}}".Replace("method: float16, protect: 0", "method: float16")
            );
            foreach (var (name, layer) in lowered.Encoded)
            {
                var (shape, reference) = (layer.Shape, Form.All[layer.Form].Decode(layer, lowered.Shards[name]));
                Assert.Equal(shape.Elements, reference.Length);
                if (layer.Form is FormName.MatMulNBits)
                    continue;
                // In the order of the view, where the runtime takes a transposition into its product, or in that of the weight.
                var (decoded, most) = (lowered.LargestWeight, reference.Max(Math.Abs));
                var stored = new double[reference.Length];
                for (long o = 0, at = 0; o < shape.Outer; o++)
                for (long n = 0; n < shape.Inner; n++)
                for (long k = 0; k < shape.Axis; k++)
                    stored[(o * shape.Axis + k) * shape.Inner + n] = reference[at++];
                Assert.True(Near(stored) || Near(reference), $"{op} {options} {layer.Form}");

                bool Near(double[] wanted) => decoded.Zip(wanted).All(p => Math.Abs(p.First - p.Second) <= 1e-6 * most);
            }
        }
    }

    [Theory]
    [InlineData("bits: 4", 4)]
    [InlineData("bits: 4, symmetric: false", 4)]
    [InlineData("bits: 8, symmetric: false", 8)]
    [InlineData("bits: 2, group: 64, symmetric: false", 2)]
    public async Task The_kernel_multiplies_by_what_the_reference_decodes(string options, int bits)
    {
        using var folder = new Folder();
        var lowered = await Lowered.Of(folder, Models["MatMul large"](13), $"quantize: {{{options}, protect: 0}}");
        var (name, layer) = Assert.Single(lowered.Encoded);
        Assert.Equal((FormName.MatMulNBits, bits), (layer.Form, layer.Grid.BitsPerWeight));
        var (x, w) = (Random("x", 3, 768), Form.All[layer.Form].Decode(layer, lowered.Shards[name]));
        var wanted = new float[3 * 704];
        for (var r = 0; r < 3; r++)
        for (var c = 0; c < 704; c++)
            wanted[r * 704 + c] = (float)Enumerable.Range(0, 768).Sum(k => x[r * 768 + k] * w[c * 768 + k]);
        // The kernel rounds its input to int8.
        Assert.True(Lowered.Cosine(wanted, lowered.Outputs) > 0.9999);
    }

    [Theory]
    [InlineData("small")]
    [InlineData("fast")]
    public async Task The_store_chooses_the_form(string store)
    {
        using var folder = new Folder();
        var model = Models["MatMul large"](13);
        var recipe = $"version: 1\nstore: {store}\nsteps:\n- quantize: {{bits: 4, protect: 0}}\n";
        var balanced = await Compressed.RunAsync(folder, model, recipe.Replace(store, "balanced"));
        var other = await Compressed.RunAsync(folder, model, recipe);
        Assert.Equal(FormName.MatMulNBits, Assert.Single(balanced.Report.Layers).Form);
        var form = Assert.Single(other.Report.Layers).Form;
        if (store == "small")
            Assert.True(form == FormName.Folded && other.Report.Size.After < balanced.Report.Size.After);
        else
            Assert.Equal(FormName.MatMulNBits, form);
        Assert.Contains($"store: {store}", await File.ReadAllTextAsync(Path.Combine(Path.GetDirectoryName(other.File)!, "recipe.yaml")));
    }

    // An encoding knows no opset: it is made for the first, and found by its hash for the others.
    [Theory]
    [MemberData(nameof(Operators))]
    public async Task Runs_and_folds_at_every_opset(string op)
    {
        using var folder = new Folder();
        // Large Gemms have the kernel of the large MatMul, which is the same from 13 on.
        int[] opsets =
            op.StartsWith("Gemm large", StringComparison.Ordinal) ? [13, 21]
            : op.EndsWith("large", StringComparison.Ordinal) ? [8, 13, 21]
            : [8, 11, 13, 17, 21];
        foreach (var opset in opsets)
        {
            var (exact, _) = Lowered.Run(Models[op](opset).ToByteArray(), Path.Combine(folder.Path, "float.onnx"));
            foreach (var (options, least) in Methods)
            {
                var protect = options.Contains("float16", StringComparison.Ordinal) ? "" : ", protect: 0";
                var lowered = await Lowered.Of(folder, Models[op](opset), $"quantize: {{{options}{protect}}}");
                Assert.NotEmpty(lowered.Encoded);
                var cosine = Lowered.Cosine(exact, lowered.Outputs);
                Assert.True(cosine >= least, $"{op} {opset} {options}: cosine {cosine}");
                var left = lowered.Optimized;
                Assert.DoesNotContain(left.Keys, k => Decoding.Contains(k));
                // What the float model needs, the compressed one may have; the decoding must be gone.
                Assert.True(
                    left.GetValueOrDefault("Cast") == 0 && (op == "Gather" || left.GetValueOrDefault("Gather") == 0),
                    string.Join(' ', left)
                );
                Assert.True(
                    left.GetValueOrDefault("Mul") <= (op.Contains("alpha", StringComparison.Ordinal) ? 1 : 0),
                    string.Join(' ', left)
                );
            }
        }
    }

    [Fact]
    public async Task Large_matrices_become_one_kernel_and_large_embeddings_are_looked_up_in_codes()
    {
        using var folder = new Folder();
        var matrix = await Compressed.RunAsync(folder, Models["MatMul large"](11), "version: 1\npreset: int4\n");
        Assert.Equal("MatMulNBits", Assert.Single(matrix.Report.Layers).Form);
        var embedding = OfOpset(13)
            .Input("i", DataType.Int64, 1, 7)
            .Weight("w", 4200, 256)
            .With(Node("Gather", ["w", "i"], ["y"]))
            .Output("y");
        foreach (
            var (options, least) in new[]
            {
                ("bits: 8", 0.9999),
                ("bits: 4", 0.98),
                ("bits: 4, symmetric: false", 0.98),
                ("bits: 8, symmetric: false", 0.9999),
            }
        )
        {
            var gather = await Compressed.RunAsync(folder, embedding, $"version: 1\nsteps:\n- quantize: {{{options}}}\n");
            Assert.Equal("GatherBlockQuantized", Assert.Single(gather.Report.Layers).Form);
            Assert.True(gather.Report.Fidelity.Cosine > least, $"{options}: {gather.Report.Fidelity.Cosine}");
            // Scales are FLOAT16, and no table of floats is made of the codes.
            var graph = Core.Model.Schema.ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(gather.File)).Graph;
            Assert.Contains(graph.Initializer, t => t.DataType == (int)DataType.Float16);
            Assert.DoesNotContain(graph.Initializer, t => t.DataType == (int)DataType.Float);
            Assert.Equal(["GatherBlockQuantized", "Cast"], graph.Node.Select(n => n.OpType));
        }
    }

    [Theory]
    [InlineData(200, "method: rtn, bits: 8, group: channel", 0.9999)]
    [InlineData(200, "method: rtn, bits: 4, group: channel", 0.97)]
    [InlineData(384, "method: dynamic", 0.9999)]
    [InlineData(384, "method: static", 0.9999)]
    public async Task A_row_of_an_embedding_shares_a_scale_though_its_length_is_no_power_of_two(int width, string step, double least)
    {
        using var folder = new Folder();
        var embedding = OfOpset(13)
            .Input("i", DataType.Int64, 1, 7)
            .Weight("w", 6000, width)
            .With(Node("Gather", ["w", "i"], ["y"]))
            .Output("y");
        var gather = await Compressed.RunAsync(folder, embedding, $"version: 1\nsteps:\n- quantize: {{{step}}}\n");
        Assert.Equal("GatherBlockQuantized", Assert.Single(gather.Report.Layers).Form);
        Assert.True(gather.Report.Fidelity.Cosine > least, gather.Report.Fidelity.ToString());
        var graph = Core.Model.Schema.ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(gather.File)).Graph;
        Assert.Equal(6000, graph.Initializer.Single(t => t.Name == "w_s").Dims.Aggregate(1L, (a, b) => a * b));
    }

    [Fact]
    public async Task Weights_of_half_and_double_precision_keep_their_type()
    {
        using var folder = new Folder();
        var values = Random("w", 64, 48);
        foreach (
            var (type, bytes) in new[]
            {
                (
                    DataType.Double,
                    System.Runtime.InteropServices.MemoryMarshal.AsBytes<double>(values.Select(v => (double)v).ToArray()).ToArray()
                ),
                (
                    DataType.Float16,
                    System.Runtime.InteropServices.MemoryMarshal.AsBytes<Half>(values.Select(v => (Half)v).ToArray()).ToArray()
                ),
            }
        )
        {
            var model = OfOpset(13)
                .Input("x", type, 3, 64)
                .Initializer(Tensor("w", type, bytes, 64, 48))
                .With(Node("MatMul", ["x", "w"], ["y"]))
                .Output("y");
            model.Graph.Output[0].Type.TensorType.ElemType = (int)type;
            var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 8, protect: 0}\n");
            Assert.True(done.Report.Fidelity.Cosine > 0.9998, $"{type}: {done.Report.Fidelity.Cosine}");
            Assert.Null(Assert.Single(done.Report.Layers).Note);
        }
    }

    [Fact]
    public async Task Weights_in_subgraphs_and_functions_are_compressed_where_they_are()
    {
        using var folder = new Folder();
        var then = new GraphProto { Name = "then" };
        then.Node.Add(
            Node(
                "Constant",
                [],
                ["inner"],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = Tensor("", Random("inner", 64, 32), 64, 32),
                }
            )
        );
        then.Node.Add(Node("MatMul", ["x", "inner"], ["p"]));
        then.Node.Add(Node("MatMul", ["x", "outer"], ["q"]));
        then.Node.Add(Node("Add", ["p", "q"], ["then_y"]));
        then.Output.Add(Value("then_y", DataType.Float));
        var other = new GraphProto { Name = "else" };
        other.Node.Add(Node("MatMul", ["x", "outer"], ["else_y"]));
        other.Output.Add(Value("else_y", DataType.Float));
        var model = OfOpset(17, "local")
            .Input("x", DataType.Float, 3, 64)
            .Input("n", DataType.Int64)
            .Weight("outer", 64, 32)
            .Initializer(Tensor("one", DataType.Int64, BitConverter.GetBytes(1L)))
            .With(
                Node("Equal", ["n", "one"], ["c"]),
                Node("If", ["c"], ["z"], Subgraph("then_branch", then), Subgraph("else_branch", other)),
                Node("local:Project", ["z"], ["y"])
            )
            .Output("y");
        var function = new FunctionProto
        {
            Name = "Project",
            Domain = "local",
            Input = { "a" },
            Output = { "b" },
        };
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 17 });
        function.Node.Add(
            Node(
                "Constant",
                [],
                ["w"],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = Tensor("", Random("function", 32, 40), 32, 40),
                }
            )
        );
        function.Node.Add(Node("MatMul", ["a", "w"], ["b"]));
        model.Functions.Add(function);
        foreach (var bits in new[] { 8, 4 })
        {
            var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{bits: {bits}, protect: 0}}\n");
            Assert.Equal(3, done.Report.Layers.Count(l => l.Note is null));
            Assert.True(done.Report.Fidelity.Cosine > (bits == 8 ? 0.9998 : 0.98));
            Assert.DoesNotContain("Gather", OptimizedOperators(done.File).Keys);
        }
    }

    [Fact]
    public async Task Batch_normalization_is_folded_and_gone()
    {
        using var folder = new Folder();
        var model = OfOpset(11)
            .Input("x", DataType.Float, 1, 8, 9, 9)
            .Weight("w", 32, 8, 3, 3)
            .Weight("g", 32)
            .Weight("b", 32)
            .Weight("m", 32)
            .Initializer(Tensor("v", [.. Random("v", 32).Select(MathF.Abs)], 32))
            .With(Node("Conv", ["x", "w"], ["c"]), Node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 16}\n");
        Assert.True(done.Report.Fidelity.Cosine > 0.99999);
        Assert.DoesNotContain(
            ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph.Node,
            n => n.OpType == "BatchNormalization"
        );
    }
}
