using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Quantization;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Static int8 on the text detector and the direction classifier, judged on lines that were never calibrated on.</summary>
public class StaticTests
{
    [Theory]
    [InlineData("ch_PP-OCRv4_det_infer", 320, 96, Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 192, 128)]
    public async Task Convolutions_run_in_integer_kernels_and_decide_as_before(string name, int width, int count)
    {
        using var folder = new Folder();
        var done = await RunAsync(folder, name, width, count, "- quantize: {method: static, samples: 32, onlyIfFaster: false}");
        Assert.Equal(("data", count - 32), (done.Report.Fidelity.Source, done.Report.Fidelity.Samples));
        Assert.True(done.Report.Fidelity.Top1Agreement >= 0.99, done.Report.Fidelity.ToString());
        Assert.True(
            IntegerWork.Share(done.File, 96, width) >= 0.9,
            $"{IntegerWork.Share(done.File, 96, width)} of the convolutions' work is done by integer kernels"
        );
        Assert.True(done.Report.BiasCorrection is { Layers: > 20, Samples: 32, Skipped: null }, done.Report.BiasCorrection?.ToString());
        Assert.Contains(
            done.Report.Layers,
            l => l is { Form: "Folded", Fallback: { } why } && why.Contains("first convolutions", StringComparison.Ordinal)
        );
    }

    [Fact]
    public async Task Pruned_layers_run_in_integer_kernels_and_take_fewer_bytes()
    {
        using var folder = new Folder();
        var (model, data) = (Path.Combine(RealModels.LeNet, "lenet.onnx"), Path.Combine(RealModels.LeNet, "data.npz"));
        const string Prune = "- prune: {method: sparsegpt, sparsity: 0.5}\n",
            Quantize = "- quantize: {method: static, onlyIfFaster: false}\n";
        async Task<Compressed> Of(string steps) => await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n{steps}", data);
        var (plain, pruned, both) = (await Of(Quantize), await Of(Prune), await Of(Prune + Quantize));
        Assert.All(both.Report.Layers.Where(l => l.Shape.Length > 1), l => Assert.Equal("Qdq", l.Form));
        Assert.Equal(Kernels(plain).Order(StringComparer.Ordinal), Kernels(both).Order(StringComparer.Ordinal));
        Assert.True(both.Report.Size.After < 0.7 * plain.Report.Size.After, $"{both.Report.Size} {plain.Report.Size}");
        Assert.True(
            both.Report.Fidelity.RelativeError < plain.Report.Fidelity.RelativeError + pruned.Report.Fidelity.RelativeError,
            $"{both.Report.Fidelity} {plain.Report.Fidelity} {pruned.Report.Fidelity}"
        );

        static IEnumerable<string> Kernels(Compressed of) => IntegerWork.Optimized(of.File, out _).Select(n => n.OpType);
    }

    // Ranges are those of the values that the pruned layers put out.
    [Fact]
    public void It_observes_what_the_steps_before_it_leave()
    {
        var steps = Core
            .Recipes.RecipeReader.Read("version: 1\nsteps:\n- prune: {sparsity: 0.5}\n- quantize: {method: static}\n", "recipe.yaml")
            .Steps;
        var pruned = steps.Index().First(s => s.Item.Step == "prune").Index;
        Assert.Single(Core.Recipes.StepSequence.Chain(steps, pruned));
    }

    [Theory]
    [InlineData("ch_PP-OCRv4_det_infer", 320, Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 192)]
    public async Task Corrected_biases_bring_the_outputs_nearer(string name, int width)
    {
        using var folder = new Folder();
        var plain = await RunAsync(
            folder,
            name,
            width,
            64,
            "- correctBias: {apply: false}\n- quantize: {method: static, onlyIfFaster: false}"
        );
        var corrected = await RunAsync(folder, name, width, 64, "- quantize: {method: static, onlyIfFaster: false}");
        Assert.Null(plain.Report.BiasCorrection);
        Assert.True(
            corrected.Report.Fidelity.RelativeError < 0.9 * plain.Report.Fidelity.RelativeError,
            $"{corrected.Report.Fidelity} {plain.Report.Fidelity}"
        );
    }

    // Both networks have values far outside of where most lie, behind hard swishes.
    [Theory]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "mse", 192, 256, Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "entropy", 192, 256, Explicit = true)]
    [InlineData("ch_PP-OCRv4_det_infer", "mse", 320, 48, Explicit = true)]
    public async Task Ranges_that_leave_outliers_outside_are_nearer_than_the_extremes(string name, string range, int width, int count)
    {
        using var folder = new Folder();
        // With weights of 7 bits, as without VNNI, the detector's error is that of its weights, and extremes are as good.
        Assert.SkipWhen(
            name.Contains("det", StringComparison.Ordinal) && StaticInteger.Settled(ReduceRange.Auto) == ReduceRange.Yes,
            "This processor has no instructions for products of 8-bit numbers."
        );
        var extremes = await RunAsync(folder, name, width, count, "- quantize: {method: static, range: minmax, onlyIfFaster: false}");
        var chosen = await RunAsync(folder, name, width, count, $"- quantize: {{method: static, range: {range}, onlyIfFaster: false}}");
        Assert.True(
            chosen.Report.Fidelity.RelativeError < extremes.Report.Fidelity.RelativeError,
            $"{chosen.Report.Fidelity} {extremes.Report.Fidelity}"
        );
    }

    // A block of MobileNetV3 whose 24 channels are no multiple of 16, its gate behind a global pool.
    [Theory]
    [InlineData(11)]
    [InlineData(17)]
    public async Task Depthwise_channels_are_padded_and_gates_are_products_of_matrices(int opset)
    {
        using var folder = new Folder();
        var kernel = ModelEdit.Attribute("kernel_shape", 1L, 1L);
        var model = OfOpset(opset)
            .Input("x", DataType.Float, 1, 32, 12, 12)
            .Weight("stem", 32, 32, 1, 1)
            .Weight("expand", 24, 32, 1, 1)
            .Weight("depth", 24, 1, 3, 3)
            .Weight("down", 8, 24, 1, 1)
            .Weight("up", 24, 8, 1, 1)
            .Weight("project", 32, 24, 1, 1)
            .With(
                Node("Conv", ["x", "stem"], ["s"]),
                Node("Relu", ["s"], ["sr"]),
                Node("Conv", ["sr", "expand"], ["e"]),
                Node("HardSigmoid", ["e"], ["eg"]),
                Node("Mul", ["e", "eg"], ["eh"]),
                Node("Conv", ["eh", "depth"], ["d"], ModelEdit.Attribute("group", 24L), ModelEdit.Attribute("pads", 1L, 1L, 1L, 1L)),
                Node("Relu", ["d"], ["dr"]),
                Node("GlobalAveragePool", ["dr"], ["p"]),
                Node("Conv", ["p", "down"], ["q"], kernel.Clone()),
                Node("Relu", ["q"], ["qr"]),
                Node("Conv", ["qr", "up"], ["u"], kernel.Clone()),
                Node("HardSigmoid", ["u"], ["g"]),
                Node("Mul", ["dr", "g"], ["m"]),
                Node("Conv", ["m", "project"], ["z"]),
                Node("Softmax", ["z"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: static, onlyIfFaster: false}\n");
        Assert.True(done.Report.Fidelity.Cosine > 0.998, done.Report.Fidelity.ToString());
        var nodes = IntegerWork.Optimized(done.File, out var dims);
        Assert.Equal(2, nodes.Count(n => n.OpType.EndsWith("Gemm", StringComparison.Ordinal)));
        var depthwise = Assert.Single(nodes, n => n.OpType == "QLinearConv" && n.Attribute.Any(a => a is { Name: "group", I: > 1 }));
        Assert.Equal([32, 1, 3, 3], dims[depthwise.Input[3]]);
        Assert.Equal(4, nodes.Count(n => n.OpType == "QLinearConv"));
    }

    private static Task<Compressed> RunAsync(Folder folder, string name, int width, int count, string steps)
    {
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var detector = name.Contains("det", StringComparison.Ordinal);
        var data = TextLines.WriteNpz(
            Path.Combine(folder.Path, "data.npz"),
            "x",
            seed: 3,
            count,
            width,
            height: detector ? 96 : 48,
            turned: !detector
        );
        return Compressed.RunAsync(folder, RealModels.File(name), $"version: 1\nsteps:\n{steps}\n", data);
    }

    [Theory]
    [InlineData(9)]
    [InlineData(10)]
    public async Task Old_operator_sets_are_raised_without_changing_what_the_graph_computes(int opset)
    {
        using var folder = new Folder();
        var model = OfOpset(opset)
            .Input("x", DataType.Float, 1, 3, 12, 12)
            .Weight("w", 16, 3, 3, 3)
            .Weight("v", 8, 16, 1, 1)
            .Initializer(Tensor("scales", [1, 1, 2, 2], 4))
            .With(
                Node("Pad", ["x"], ["p"], ModelEdit.Attribute("pads", 0L, 0L, 1L, 1L, 0L, 0L, 1L, 1L)),
                Node("Conv", ["p", "w"], ["c"]),
                Node(
                    "Clip",
                    ["c"],
                    ["r"],
                    new AttributeProto
                    {
                        Name = "min",
                        F = 0,
                        Type = AttributeProto.Types.AttributeType.Float,
                    },
                    new AttributeProto
                    {
                        Name = "max",
                        F = 6,
                        Type = AttributeProto.Types.AttributeType.Float,
                    }
                ),
                Node("Conv", ["r", "v"], ["d"]),
                Node(opset == 9 ? "Upsample" : "Resize", ["d", "scales"], ["u"])
            )
            .Output("y");
        if (opset == 9)
            model.With(
                Node(
                    "Slice",
                    ["u"],
                    ["y"],
                    ModelEdit.Attribute("starts", 1L),
                    ModelEdit.Attribute("ends", 20L),
                    ModelEdit.Attribute("axes", 2L)
                )
            );
        else
            model.With(Node("Identity", ["u"], ["y"]));
        foreach (var a in model.Graph.Node.SelectMany(n => n.Attribute).Where(a => a.Name is "starts" or "ends" or "axes"))
        {
            a.Ints.Add(a.I);
            a.ClearI();
            a.Type = AttributeProto.Types.AttributeType.Ints;
        }
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: static, onlyIfFaster: false}\n");
        Assert.All(done.Report.Layers.Where(l => l.Op == "Conv"), l => Assert.Equal("Qdq", l.Form));
        Assert.True(done.Report.Fidelity.Cosine > 0.998, done.Report.Fidelity.ToString());
    }
}
