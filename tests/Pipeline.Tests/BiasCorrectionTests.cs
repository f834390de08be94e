using Serverless.Core.Model;
using Serverless.Core.Techniques.BiasCorrection;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Bias correction behind rounded weights: without data from batch normalizations, with data measured.</summary>
public class BiasCorrectionTests
{
    [Fact]
    public async Task Biases_corrected_without_data_bring_a_real_network_nearer_at_the_same_size()
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var model = RealModels.File("ch_ppocr_mobile_v2.0_cls_infer");
        var plain = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: rtn, bits: 4, group: channel}\n");
        var corrected = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- quantize: {method: rtn, bits: 4, group: channel}\n- correctBias: {}\n"
        );
        Assert.Equal("synthetic", corrected.Report.Fidelity.Source);
        Assert.True(
            corrected.Report.BiasCorrection is { Layers: > 20, Samples: 0, Skipped: null },
            corrected.Report.BiasCorrection?.ToString()
        );
        Assert.InRange(corrected.Report.Size.After - plain.Report.Size.After, -1000, 1000);
        var lines = Enumerable.Range(0, 128).Select(i => TextLines.Draw(21, i, 192)).ToList();
        for (var i = 1; i < lines.Count; i += 2)
        for (var c = 0; c < 3; c++)
            Array.Reverse(lines[i], c * 48 * 192, 48 * 192);
        var (before, after) = (
            Outputs.Error(model, plain.File, lines, 1, 3, 48, 192),
            Outputs.Error(model, corrected.File, lines, 1, 3, 48, 192)
        );
        Assert.True(after < 0.95 * before, $"{after} corrected, {before} not");
    }

    // Nagel et al. 2019, eq. 19: behind a Relu, E[x] = σ·φ(−μ/σ) + μ·(1 − Φ(−μ/σ)).
    [Fact]
    public void Expected_inputs_behind_a_Relu_are_those_of_the_clipped_normal_distribution()
    {
        double[] mean = [-1.5, 0, 0.25, 2],
            deviation = [0.5, 1, 2, 0.1];
        var model = OfOpset(13).With(Node("Relu", ["n"], ["r"]), Node("AveragePool", ["r"], ["p"]));
        var expected = new ExpectedInputs(
            new GraphFacts(model),
            new Dictionary<string, ChannelDistribution> { ["n"] = new(mean, deviation) }
        );
        for (var c = 0; c < mean.Length; c++)
        {
            var z = mean[c] / deviation[c];
            var closed = deviation[c] * Density(z) + mean[c] * Distribution(z);
            Assert.Equal(closed, expected.Of("p")!.Mean[c], 1e-4);
        }
        Assert.Null(expected.Of("elsewhere"));
    }

    [Fact]
    public void A_swish_is_integrated_as_one_function_and_sums_add_up()
    {
        var model = OfOpset(13)
            .With(
                Node("HardSigmoid", ["n"], ["g"], ModelEdit.Attribute("alpha", 1f / 6)),
                Node("Mul", ["n", "g"], ["s"]),
                Node("Add", ["s", "n"], ["y"]),
                Node("Exp", ["n"], ["e"])
            );
        var inputs = new ExpectedInputs(new GraphFacts(model), new Dictionary<string, ChannelDistribution> { ["n"] = new([0.5], [1]) });
        var random = new Random(1);
        var drawn = Enumerable
            .Range(0, 400_000)
            .Select(_ => 0.5 + Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()))
            .Average(x => x * Math.Clamp(x / 6 + 0.5, 0, 1) + x);
        Assert.Equal(drawn, inputs.Of("y")!.Mean[0], 0.01);
        Assert.Null(inputs.Of("e"));
    }

    private static double Density(double z) => Math.Exp(-z * z / 2) / Math.Sqrt(2 * Math.PI);

    // Marsaglia 2004, "Evaluating the Normal Distribution": 1/2 + φ(z)·(z + z³/3 + z⁵/(3·5) + …).
    private static double Distribution(double z)
    {
        double sum = 0,
            term = z;
        for (var i = 1; Math.Abs(term) > 1e-16; i++)
        {
            sum += term;
            term *= z * z / (2 * i + 1);
        }
        return 0.5 + sum * Density(z);
    }

    [Fact]
    public async Task Biases_behind_weights_rounded_to_nearest_are_corrected_on_data_where_there_is_some()
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 4, count: 128, width: 192, turned: true);
        var model = RealModels.File("ch_ppocr_mobile_v2.0_cls_infer");
        var recipe = "version: 1\nsteps:\n- quantize: {method: rtn, bits: 4, group: channel}\n- correctBias: {samples: 64";
        var plain = await Compressed.RunAsync(folder, model, $"{recipe}, apply: false}}\n", data);
        var corrected = await Compressed.RunAsync(folder, model, $"{recipe}}}\n", data);
        Assert.True(
            corrected.Report.BiasCorrection is { Layers: > 20, Samples: 64, Skipped: null },
            corrected.Report.BiasCorrection?.ToString()
        );
        Assert.Equal(64, corrected.Report.Fidelity.Samples);
        Assert.True(
            corrected.Report.Fidelity.RelativeError < plain.Report.Fidelity.RelativeError,
            $"{corrected.Report.Fidelity} {plain.Report.Fidelity}"
        );
    }

    [Fact]
    public async Task Without_data_and_without_normalizations_nothing_is_corrected_and_the_report_says_why()
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, 4, 8, 8)
            .Weight("w", 32, 4, 3, 3)
            .With(Node("Conv", ["x", "w"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- correctBias: {}\n- quantize: {method: rtn}\n");
        Assert.Contains("no batch normalizations", done.Report.BiasCorrection!.Skipped!, StringComparison.Ordinal);
    }
}
