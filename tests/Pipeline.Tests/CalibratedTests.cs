using Serverless.Core.Model;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Calibrated techniques on the text recogniser, judged on lines that were never calibrated on.</summary>
public class CalibratedTests
{
    private static readonly string Recogniser = RealModels.Ocr[1];

    [Theory]
    // On demand: -explicit on.
    [InlineData(4, 0.4, Explicit = true)]
    [InlineData(3, 0.4)]
    [InlineData(2, 0.9, Explicit = true)]
    public async Task Gptq_is_nearer_than_rounding_to_nearest_at_the_same_size(int bits, double most)
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 1, count: 32, width: 160);
        var rtn = await Compressed.RunAsync(
            folder,
            RealModels.File(Recogniser),
            $"version: 1\nsteps:\n- quantize: {{method: rtn, bits: {bits}, symmetric: false}}\n",
            data
        );
        var gptq = await Compressed.RunAsync(
            folder,
            RealModels.File(Recogniser),
            $"version: 1\nsteps:\n- quantize: {{method: gptq, bits: {bits}, symmetric: false, samples: 16}}\n",
            data
        );
        Assert.Equal(16, gptq.Report.Fidelity.Samples);
        Assert.Equal(new Serverless.Core.Reports.ReportCalibration("data", 16, true), gptq.Report.Calibration);
        Assert.InRange((double)gptq.Report.Size.After / rtn.Report.Size.After, 0.99, 1.01);
        Assert.True(
            gptq.Report.Fidelity.RelativeError < most * rtn.Report.Fidelity.RelativeError,
            $"{bits} bits: {gptq.Report.Fidelity} after GPTQ, {rtn.Report.Fidelity} rounded to nearest; {string.Join('\n', gptq.Report.Layers.Where(l => l.Fallback is not null).Select(l => l.Name + l.Fallback))}"
        );
    }

    [Fact(Explicit = true)]
    public async Task Awq_is_nearer_than_rounding_to_nearest_at_about_the_same_size()
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 1, count: 48, width: 160);
        var rtn = await Compressed.RunAsync(
            folder,
            RealModels.File(Recogniser),
            "version: 1\nsteps:\n- quantize: {method: rtn, bits: 4, symmetric: false}\n",
            data
        );
        var awq = await Compressed.RunAsync(
            folder,
            RealModels.File(Recogniser),
            "version: 1\nsteps:\n- quantize: {method: awq, bits: 4, samples: 24}\n",
            data
        );
        Assert.InRange((double)awq.Report.Size.After / rtn.Report.Size.After, 0.99, 1.02);
        Assert.True(
            awq.Report.Fidelity.RelativeError < 0.97 * rtn.Report.Fidelity.RelativeError,
            $"{awq.Report.Fidelity} after AWQ, {rtn.Report.Fidelity} rounded to nearest"
        );
        Assert.Contains(awq.Report.Layers, l => l.Fallback == "rounded to nearest: it is a grouped convolution");
    }

    // Scales that vary a thousandfold, so that the search finds an exponent above zero.
    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 2)]
    public async Task Awq_divides_the_input_in_the_normalization_before_a_kernel_where_that_is_the_layers_own(
        int layers,
        int multiplications
    )
    {
        using var folder = new Folder();
        var gamma = Enumerable.Range(0, 512).Select(i => i % 64 == 0 ? 60f : 0.1f + i % 7).ToArray();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 16, 512)
            .Initializer(Tensor("gamma", gamma, 512))
            .Initializer(Tensor("beta", new float[512], 512))
            .With(Node("LayerNormalization", ["x", "gamma", "beta"], ["n"]));
        for (var i = 0; i < layers; i++)
            model.Weight($"w{i}", 512, 1024).With(Node("MatMul", ["n", $"w{i}"], [$"y{i}"])).Output($"y{i}");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: awq, bits: 4, protect: 0}\n");
        Assert.All(done.Report.Layers.Where(l => l.Note is null), l => Assert.Equal("MatMulNBits", l.Form));
        Assert.Equal(multiplications, OptimizedOperators(done.File).GetValueOrDefault("Mul"));
        Assert.True(done.Report.Fidelity.Cosine > 0.99, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task What_cannot_be_calibrated_is_rounded_to_nearest_and_the_report_says_why()
    {
        using var folder = new Folder();
        // Behind a layout operator; with inputs that are never active; and an embedding, which has no rows to observe.
        var model = OfOpset(13)
            .Input("i", DataType.Int64, 1, 5)
            .Weight("table", 70, 64)
            .Weight("turned", 48, 64)
            .Weight("flat", 48 * 48)
            .Weight("dead", 48, 96)
            .Initializer(Tensor("square", DataType.Int64, System.Runtime.InteropServices.MemoryMarshal.AsBytes<long>([48, 48]), 2))
            .With(
                Node("Gather", ["table", "i"], ["e"]),
                Node("Transpose", ["turned"], ["t"]),
                Node("MatMul", ["e", "t"], ["s"]),
                Node("Reshape", ["flat", "square"], ["f"]),
                Node("MatMul", ["s", "f"], ["m"]),
                Node("Sub", ["m", "m"], ["zero"]),
                Node("Relu", ["zero"], ["z"]),
                Node("MatMul", ["z", "dead"], ["y"])
            )
            .Output("y")
            .Output("m");
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- simplify: {constants: false}\n- quantize: {method: gptq, protect: 0}\n"
        );
        string? Fallback(string name) => done.Report.Layers.Single(l => l.Name == name).Fallback;
        Assert.Contains("Gather", Fallback("table"), StringComparison.Ordinal);
        Assert.Contains("layout operator", Fallback("flat"), StringComparison.Ordinal);
        Assert.Null(Fallback("turned"));
        Assert.Contains("singular", Fallback("dead"), StringComparison.Ordinal);
        Assert.All(
            done.Report.Layers.Where(l => l.Name != "turned" && l.Note is null),
            l => Assert.StartsWith("rounded to nearest", l.Fallback, StringComparison.Ordinal)
        );
        Assert.Equal("synthetic", done.Report.Calibration!.Source);
    }

    [Fact]
    public async Task Inputs_that_are_never_active_are_counted_in_the_report()
    {
        using var folder = new Folder();
        var mask = Enumerable.Range(0, 64).Select(i => i < 10 ? 0f : 1f).ToArray();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 4, 64)
            .Initializer(Tensor("mask", mask, 64))
            .Weight("w", 64, 48)
            .With(Node("Mul", ["x", "mask"], ["m"]), Node("MatMul", ["m", "w"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: gptq, protect: 0}\n");
        Assert.StartsWith("10 of 64 inputs", done.Report.Layers.Single(l => l.Name == "w").Fallback, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_group_that_is_never_active_does_not_take_the_other_groups_with_it()
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, 4, 8, 8)
            .Initializer(Tensor("mask", [1, 0, 1, 1], 1, 4, 1, 1))
            .Weight("w", 256, 1, 3, 3)
            .With(Node("Mul", ["x", "mask"], ["m"]), Node("Conv", ["m", "w"], ["y"], ModelEdit.Attribute("group", 4L)))
            .Output("y");
        var rtn = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: rtn, bits: 3, protect: 0}\n");
        var gptq = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: gptq, bits: 3, protect: 0}\n");
        Assert.StartsWith("9 of 36 inputs", gptq.Report.Layers.Single(l => l.Name == "w").Fallback, StringComparison.Ordinal);
        Assert.True(
            gptq.Report.Fidelity.RelativeError < 0.9 * rtn.Report.Fidelity.RelativeError,
            $"{gptq.Report.Fidelity} {rtn.Report.Fidelity}"
        );
    }

    [Theory]
    [InlineData("MatMul")]
    [InlineData("Gemm")]
    [InlineData("LSTM")]
    public async Task Dynamic_int8_runs_in_the_kernels_made_for_it(string op)
    {
        using var folder = new Folder();
        var model = op switch
        {
            "LSTM" => OfOpset(13)
                .Input("x", DataType.Float, 6, 1, 40)
                .Weight("w", 1, 128, 40)
                .Weight("r", 1, 128, 32)
                .Weight("b", 1, 256)
                .With(Node("LSTM", ["x", "w", "r", "b"], ["y"], ModelEdit.Attribute("hidden_size", 32)))
                .Output("y"),
            "Gemm" => OfOpset(13)
                .Input("x", DataType.Float, 3, 96)
                .Weight("w", 96, 40)
                .Weight("c", 40)
                .With(Node("Gemm", ["x", "w", "c"], ["y"]))
                .Output("y"),
            _ => OfOpset(9).Input("x", DataType.Float, 3, 100).Weight("w", 100, 24).With(Node("MatMul", ["x", "w"], ["y"])).Output("y"),
        };
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: dynamic, onlyIfFaster: false}\n");
        Assert.All(done.Report.Layers.Where(l => l.Note is null), l => Assert.Equal(("Dynamic", (string?)null), (l.Form, l.Fallback)));
        Assert.Contains(op == "LSTM" ? "DynamicQuantizeLSTM" : "DynamicQuantizeMatMul", OptimizedOperators(done.File).Keys);
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
    }
}
