using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Calibrated techniques on the text recogniser, judged on lines that were never calibrated on.</summary>
public class CalibratedTests
{
    private static readonly string Recogniser = RealModels.Ocr[1];

    [Theory]
    [InlineData(4, 0.4)]
    [InlineData(3, 0.4)]
    [InlineData(2, 0.9)]
    public async Task Gptq_is_nearer_than_rounding_to_nearest_at_the_same_size(int bits, double most)
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 1, count: 96);
        var rtn = await Compressed.RunAsync(folder, RealModels.File(Recogniser), $"version: 1\nsteps:\n- quantize: {{method: rtn, bits: {bits}, symmetric: false}}\n", data);
        var gptq = await Compressed.RunAsync(folder, RealModels.File(Recogniser), $"version: 1\nsteps:\n- quantize: {{method: gptq, bits: {bits}, symmetric: false, samples: 48}}\n", data);
        Assert.Equal(48, gptq.Report.Fidelity.Samples);
        Assert.InRange((double)gptq.Report.Size.After / rtn.Report.Size.After, 0.99, 1.01);
        Assert.True(gptq.Report.Fidelity.RelativeError < most * rtn.Report.Fidelity.RelativeError, $"{bits} bits: {gptq.Report.Fidelity} after GPTQ, {rtn.Report.Fidelity} rounded to nearest; {string.Join('\n', gptq.Report.Layers.Where(l => l.Fallback is not null).Select(l => l.Name + l.Fallback))}");
    }
}
