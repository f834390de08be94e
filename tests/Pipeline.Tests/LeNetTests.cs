using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Pruning of LeNet-5, the network of Han et al. 2015, trained on Fashion-MNIST (tests/models/lenet, made by
/// <c>tests/Benchmarks -- train-lenet</c>).
/// </summary>
public class LeNetTests
{
    // What the trainer printed of the pictures in data.npz.
    private const double Trained = 0.925;

    private const int Pictures = 400;

    private static readonly string Model = Path.Combine(RealModels.LeNet, "lenet.onnx");
    private static readonly string Data = Path.Combine(RealModels.LeNet, "data.npz");

    [Fact]
    public async Task It_is_as_accurate_as_it_was_trained_and_at_eight_bits_still()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Model, "version: 1\nsteps:\n- quantize: {method: rtn, bits: 8}\n", Data);
        Assert.Equal(Pictures, done.Report.Accuracy!.Samples);
        Assert.Equal(Trained, done.Report.Accuracy.Before, 1e-9);
        Assert.Equal(Trained, done.Report.Accuracy.After, 0.005);
        Assert.Equal(430_500, done.Report.Layers.Where(l => l.Shape.Length > 1).Sum(l => l.Shape.Aggregate(1L, (a, b) => a * b)));
    }

    [Theory]
    [InlineData("sparsity: 0.5")]
    [InlineData("pattern: \"2:4\"")]
    public async Task Outputs_are_nearest_by_sparsegpt_and_nearer_by_wanda_than_by_magnitude(string options)
    {
        using var folder = new Folder();
        async Task<double> ErrorAsync(string method)
        {
            var done = await Compressed.RunAsync(folder, Model, $"version: 1\nsteps:\n- prune: {{method: {method}, {options}}}\n", Data);
            return await done.ErrorAsync(Model, Data, Pictures / 2);
        }
        var (magnitude, wanda, sparsegpt) = (await ErrorAsync("magnitude"), await ErrorAsync("wanda"), await ErrorAsync("sparsegpt"));
        Assert.True(sparsegpt <= wanda && wanda <= magnitude, $"{sparsegpt} {wanda} {magnitude}");
    }

    [Fact]
    public async Task Half_of_the_multiply_accumulates_go_at_three_points_of_accuracy_at_most()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Model, "version: 1\nsteps:\n- shrink: {ratio: 0.5}\n", Data);
        var (macs, accuracy) = (done.Report.MultiplyAccumulates!, done.Report.Accuracy!);
        Assert.InRange(macs.Ratio, 0.3, 0.5);
        Assert.True(accuracy.Samples >= Pictures / 2, $"{accuracy.Samples}");
        Assert.True(accuracy.After >= accuracy.Before - 0.03, $"{accuracy}");
    }
}
