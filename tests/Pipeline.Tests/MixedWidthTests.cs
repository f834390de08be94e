using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Widths chosen for each layer against one width for all, at equal size.</summary>
public class MixedWidthTests
{
    [Theory]
    [InlineData("ch_PP-OCRv4_rec_infer", "gptq", 3)]
    [InlineData("ch_PP-OCRv4_rec_infer", "rtn", 4)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "rtn", 4)]
    [InlineData("silero_vad_v5", "rtn", 4)]
    [InlineData("digits", "rtn", 3)]
    public async Task Mixed_widths_are_nearer_than_the_best_uniform_one(string name, string method, int bits)
    {
        using var folder = new Folder();
        string? data = null;
        if (name.Contains("rec", StringComparison.Ordinal))
        {
            Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
            data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 1, count: 48);
        }
        var file = name == "digits" ? Path.Combine(RealModels.Digits, "digits.onnx") : RealModels.File(name);
        if (name == "digits") data = Path.Combine(RealModels.Digits, "data.npz");
        var uniform = await Compressed.RunAsync(folder, file, $"version: 1\nsteps:\n- quantize: {{method: {method}, bits: {bits}, protect: 0}}\n", data);
        var ratio = uniform.Report.Size.Ratio.ToString("0.#####", System.Globalization.CultureInfo.InvariantCulture);
        var mixed = await Compressed.RunAsync(folder, file, $"version: 1\nbudget: {{maxSizeRatio: {ratio}}}\nsteps:\n- quantize: {{method: {method}, bits: mixed}}\n", data);
        Assert.True(mixed.Report.Size.After <= uniform.Report.Size.After + 2, $"{mixed.Report.Size} and {uniform.Report.Size}");
        Assert.True(mixed.Report.Fidelity.RelativeError < uniform.Report.Fidelity.RelativeError, $"{mixed.Report.Fidelity} mixed, {uniform.Report.Fidelity} uniform");
    }

    [Fact]
    public async Task Within_a_loss_alone_the_model_shrinks_until_the_loss_is_used()
    {
        using var folder = new Folder();
        var (file, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var uniform = await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- quantize: {method: rtn, bits: 3}\n", data);
        var mixed = await Compressed.RunAsync(folder, file, "version: 1\nbudget: {maxAccuracyLoss: 0.02}\nsteps:\n- quantize: {method: rtn, bits: mixed}\n", data);
        Assert.Equal("succeeded", mixed.Report.Status);
        Assert.InRange(mixed.Report.Budget!.Loss, 0, 0.02);
        Assert.True(mixed.Report.Attempts > 1 && mixed.Report.Size.After < uniform.Report.Size.After, $"{mixed.Report.Attempts} attempts, {mixed.Report.Size} and {uniform.Report.Size}");
    }
}
