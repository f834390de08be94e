using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Widths chosen for each layer against one width for all, at equal size.</summary>
public class MixedWidthTests
{
    // Of data.npz.
    private const int Samples = 400;

    [Theory]
    // Measured for long: -explicit on.
    [InlineData("ch_PP-OCRv4_rec_infer", "gptq, samples: 16", 3, Explicit = true)]
    [InlineData("ch_PP-OCRv4_det_infer", "rtn", 4, Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "rtn", 4, Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "rtn", 3, Explicit = true)]
    [InlineData("silero_vad_v5", "hqq", 4, Explicit = true)]
    [InlineData("silero_vad_v6", "gptq", 4, Explicit = true)]
    [InlineData("digits", "rtn", 3)]
    [InlineData("digits", "gptq", 4)]
    public async Task Mixed_widths_are_nearer_than_the_best_uniform_one(string name, string method, int bits)
    {
        using var folder = new Folder();
        string? data = null;
        if (name.StartsWith("ch_", StringComparison.Ordinal))
        {
            Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
            // Of a picture there is one direction, of a line many characters, of a page many pixels: that many are needed to tell.
            var (count, width, height) =
                name.Contains("cls", StringComparison.Ordinal) ? (128, 192, 48)
                : name.Contains("rec", StringComparison.Ordinal) ? (48, 320, 48)
                : (24, 320, 96);
            data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 1, count, width, height, turned: count == 128);
        }
        var file = name == "digits" ? Path.Combine(RealModels.Digits, "digits.onnx") : RealModels.File(name);
        if (name == "digits")
            data = Path.Combine(RealModels.Digits, "data.npz");
        // A loss is measured a layer and width: the layers that are skipped are many and small.
        string[] skipped = (name, bits) switch
        {
            ("ch_PP-OCRv4_rec_infer", _) => ["conv2d_10*", "conv2d_15*", "conv2d_16*"],
            ("ch_PP-OCRv4_det_infer", _) => ["conv2d_13*", "conv2d_14*", "conv2d_15*", "conv2d_39*", "conv2d_40*"],
            ("ch_ppocr_mobile_v2.0_cls_infer", 3) => ["conv2d_?.*", "conv2d_1*", "conv2d_2*", "conv2d_3*"],
            _ => [],
        };
        var rules = skipped.Length == 0 ? "" : "layers:\n" + string.Concat(skipped.Select(s => $"- {{match: \"{s}\", skip: true}}\n"));
        var uniform = await Compressed.RunAsync(
            folder,
            file,
            $"version: 1\nsteps:\n- quantize: {{method: {method}, bits: {bits}, protect: 0}}\n{rules}",
            data
        );
        var ratio = (Math.Ceiling(uniform.Report.Size.Ratio * 1e8) / 1e8).ToString(
            "0.########",
            System.Globalization.CultureInfo.InvariantCulture
        );
        var mixed = await Compressed.RunAsync(
            folder,
            file,
            $"version: 1\nbudget: {{maxSizeRatio: {ratio}}}\nsteps:\n- quantize: {{method: {method}, bits: mixed}}\n{rules}",
            data
        );
        Assert.InRange(mixed.Report.Size.After, 0, uniform.Report.Size.After);
        Assert.InRange(mixed.Report.Widths!.Chosen.SizeRatio * mixed.Report.Size.Before - mixed.Report.Size.After, -16, 16);
        Assert.True(mixed.Report.Widths.Tried.Count > 1);
        // Widths are chosen on samples, which are not compared on; other methods leave all of them to be compared on.
        var seen = data is null ? 0 : mixed.Report.Calibration!.Samples;
        var (at, throughout) = (mixed.Report.Fidelity.RelativeError!.Value, await uniform.ErrorAsync(file, data, seen));
        Assert.True(at < throughout, $"{at} mixed, {throughout} uniform");
    }

    [Fact]
    public async Task Within_a_loss_alone_the_model_shrinks_until_the_loss_is_used()
    {
        using var folder = new Folder();
        var (file, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var uniform = await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- quantize: {method: rtn, bits: 3}\n", data);
        var mixed = await Compressed.RunAsync(
            folder,
            file,
            "version: 1\nbudget: {maxAccuracyLoss: 0.02}\nsteps:\n- quantize: {method: rtn, bits: mixed}\n",
            data
        );
        Assert.Equal("succeeded", mixed.Report.Status);
        Assert.InRange(mixed.Report.Budget!.Loss!.Value, 0.005, 0.02);
        Assert.True(mixed.Report.Size.After < uniform.Report.Size.After, $"{mixed.Report.Size} and {uniform.Report.Size}");
    }

    [Fact]
    public async Task Steps_behind_chosen_widths_are_done_and_the_samples_of_the_choice_are_not_compared_on()
    {
        using var folder = new Folder();
        var (file, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        const string Mixed = "version: 1\nsteps:\n- quantize: {method: rtn, bits: mixed}\n";
        var plain = await Compressed.RunAsync(folder, file, Mixed, data);
        var corrected = await Compressed.RunAsync(folder, file, Mixed + "- correctBias: {samples: 64}\n", data);
        Assert.Equal("data", plain.Report.Calibration!.Source);
        Assert.True(corrected.Report.BiasCorrection is { Layers: > 1, Skipped: null }, corrected.Report.BiasCorrection?.ToString());
        foreach (var report in new[] { plain.Report, corrected.Report })
            Assert.Equal(Samples - report.Calibration!.Samples, report.Fidelity.Samples);
    }
}
