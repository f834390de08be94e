using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Scaling;
using Serverless.Core.Techniques.Simplification;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Channels scaled between layers before they are quantized.</summary>
public class RescaleTests
{
    private const string Static = "- correctBias: {apply: false}\n- quantize: {method: static, onlyIfFaster: false}\n";

    // The trained digit classifier with its channels scaled up to thirtyfold either way: the same function, harder to round.
    [Fact]
    public async Task Equalization_makes_up_for_unbalanced_channels_of_a_trained_network()
    {
        using var folder = new Folder();
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        ConstantMerging.Apply(new ModelEdit(model));
        var random = new Random(5);
        var values = ChannelScaling.Of(model).Where(v => v.FromLayer).ToList();
        Assert.NotEmpty(values);
        foreach (var v in values)
        {
            var by = Enumerable.Range(0, v.Channels).Select(_ => MathF.Exp((random.NextSingle() - 0.5f) * 7)).ToArray();
            foreach (var m in v.Makers)
                Multiply(m, c => 1 / by[c]);
            foreach (var t in v.Takers)
                Multiply(t, c => by[c]);
        }
        var data = Path.Combine(RealModels.Digits, "data.npz");
        var plain = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n" + Static, data);
        var equalized = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- equalize: {}\n" + Static, data);
        var untouched = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- equalize: {}\n- quantize: {method: rtn, bits: 16}\n",
            data
        );
        Assert.Equal(values.Count, equalized.Report.Rescaling!.Equalized);
        Assert.True(
            equalized.Report.Fidelity.RelativeError < 0.7 * plain.Report.Fidelity.RelativeError,
            $"{equalized.Report.Fidelity} {plain.Report.Fidelity}"
        );
        Assert.True(untouched.Report.Fidelity.RelativeError < 1e-3, untouched.Report.Fidelity.ToString());
    }

    // As the activations of language models are: a few channels a hundred times as wide as the rest.
    [Theory]
    [InlineData("LayerNormalization")]
    [InlineData("Mul")]
    public async Task Smoothing_takes_outlying_channels_out_of_the_activations(string producer)
    {
        using var folder = new Folder();
        var gamma = Enumerable.Range(0, 128).Select(i => i % 40 == 7 ? 50f : 0.5f).ToArray();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 32, 128)
            .Weight("w", 128, 96)
            .Weight("v", 128, 64)
            .Initializer(Tensor("gamma", gamma, 128))
            .Initializer(Tensor("beta", [.. gamma.Select(g => g / 9)], 128))
            .With(
                producer == "Mul"
                    ? [Node("Mul", ["x", "gamma"], ["m"]), Node("Add", ["m", "beta"], ["n"])]
                    : [Node("LayerNormalization", ["x", "gamma", "beta"], ["n"])]
            )
            .With(Node("MatMul", ["n", "w"], ["y"]), Node("MatMul", ["n", "v"], ["z"]))
            .Output("y")
            .Output("z");
        // What is wide in the activations is narrow in the weights, as it is in trained networks.
        foreach (var t in model.Graph.Initializer.Where(t => t.Dims.Count == 2))
            Multiply(new ChannelConstant(t, 0), c => 0.5f / gamma[c]);
        var plain = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n" + Static);
        var smoothed = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- smooth: {}\n" + Static);
        Assert.Equal(new Serverless.Core.Techniques.Scaling.Rescaling(0, 1, 0, 0, 0), smoothed.Report.Rescaling);
        Assert.True(
            smoothed.Report.Fidelity.RelativeError < 0.5 * plain.Report.Fidelity.RelativeError,
            $"{smoothed.Report.Fidelity} {plain.Report.Fidelity}"
        );
    }

    [Fact]
    public async Task Both_leave_what_a_real_network_computes_as_it_was()
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        const int Lines = 12;
        var done = await Compressed.RunAsync(
            folder,
            RealModels.File(RealModels.Ocr[1]),
            "version: 1\nsteps:\n- equalize: {}\n- smooth: {}\n- quantize: {method: rtn, bits: 16}\n",
            TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 8, count: Lines, width: 320)
        );
        Assert.True(done.Report.Rescaling is { Equalized: > 0, Smoothed: > 0 }, done.Report.Rescaling?.ToString());
        Assert.True(done.Report.Fidelity.RelativeError < 2e-3, done.Report.Fidelity.ToString());
        // Samples that an early step saw are not compared on, whatever the last one looks at.
        Assert.Equal(Lines / 2, done.Report.Calibration!.Samples);
        Assert.Equal(Lines / 2, done.Report.Fidelity.Samples);
    }

    private static void Multiply(ChannelConstant constant, Func<int, float> by)
    {
        var tensor = constant.Tensor;
        var floats = MemoryMarshal.Cast<byte, float>(TensorRef.InlineBytes(tensor).Span).ToArray();
        var inner = tensor.Dims.Skip(constant.Axis + 1).Aggregate(1L, (a, b) => a * b);
        for (var i = 0; i < floats.Length; i++)
            floats[i] *= by((int)(i / inner % tensor.Dims[constant.Axis]));
        tensor.FloatData.Clear();
        tensor.RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(floats));
    }
}
