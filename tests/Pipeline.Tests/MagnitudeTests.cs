using Serverless.Core;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Magnitude pruning, alone and in front of every quantization.</summary>
public class MagnitudeTests
{
    private static readonly float[] Weights = Random("w", 96, 40);

    private static ModelProto Net(int opset = 17) =>
        OfOpset(opset).Input("x", DataType.Float, 3, 96).Weight("w", 96, 40).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");

    [Theory]
    [InlineData(0.1)]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public async Task The_smallest_weights_become_zero_and_the_others_stay_as_they_are(double sparsity)
    {
        using var folder = new Folder();
        var pruned = await Lowered.Of(folder, Net(), FormattableString.Invariant($"prune: {{sparsity: {sparsity}}}"));
        var smallest = Weights.Select(Math.Abs).Order().Skip((int)(sparsity * Weights.Length)).First();
        Assert.Equal(Weights.Select(w => Math.Abs(w) < smallest ? 0 : w), pruned.LargestWeight);
        var error = Math.Sqrt(Weights.Where(w => Math.Abs(w) < smallest).Sum(w => (double)w * w) / Weights.Sum(w => (double)w * w));
        Assert.Equal(error, pruned.Encoded["w"].RelativeError, 1e-9);
        Assert.Equal(Weights.Length - (int)(sparsity * Weights.Length), pruned.Encoded["w"].Nonzero);
    }

    [Theory]
    [InlineData("bits: 8")]
    [InlineData("bits: 4, symmetric: false, group: 16")]
    [InlineData("bits: 3, scale: mse")]
    [InlineData("method: hqq, bits: 4")]
    [InlineData("method: gptq, bits: 4")]
    [InlineData("method: ternary, scales: two")]
    [InlineData("method: fixed")]
    [InlineData("method: float16")]
    public async Task A_quantization_keeps_pruned_weights_exactly_zero(string options)
    {
        using var folder = new Folder();
        var protect = options.Contains("float16", StringComparison.Ordinal) ? "" : ", protect: 0";
        var dense = await Lowered.Of(folder, Net(), $"quantize: {{{options}{protect}}}");
        var both = await Lowered.Of(folder, Net(), "prune: {sparsity: 0.5}", $"quantize: {{{options}{protect}}}");
        var limit = Weights.Select(Math.Abs).Order().Skip(Weights.Length / 2).First();
        Assert.All(Weights.Zip(both.LargestWeight).Where(p => Math.Abs(p.First) < limit), p => Assert.Equal(0, p.Second));
        Assert.True(both.Encoded["w"].Bytes <= dense.Encoded["w"].Bytes);
        Assert.True(both.Encoded["w"].RelativeError > dense.Encoded["w"].RelativeError);
    }

    [Fact]
    public async Task A_threshold_for_the_model_prunes_layers_of_small_weights_more()
    {
        using var folder = new Folder();
        var small = Random("v", 96, 96).Select(w => w / 4).ToArray();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 3, 96)
            .Initializer(Tensor("v", small, 96, 96))
            .Weight("w", 96, 40)
            .With(Node("MatMul", ["x", "v"], ["h"]), Node("MatMul", ["h", "w"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- prune: {sparsity: 0.6, scope: global}\n");
        var all = small.Concat(Weights).Select(Math.Abs).Order().ToArray();
        var limit = all[(int)(0.6 * all.Length)];
        foreach (var (name, weights) in new[] { ("v", small), ("w", Weights) })
            Assert.Equal(
                weights.Count(w => Math.Abs(w) < limit) / (double)weights.Length,
                done.Report.Layers.Single(l => l.Name == name).Sparsity,
                0.005
            );
        Assert.Equal(0.4, (double)done.Report.Parameters.Nonzero / all.Length, 0.003);
    }

    [Fact]
    public async Task A_threshold_for_the_model_holds_where_widths_are_chosen_too()
    {
        using var folder = new Folder();
        var file = Path.Combine(RealModels.Digits, "digits.onnx");
        async Task<IReadOnlyList<double>> Sparsities(string bits)
        {
            var recipe =
                $"version: 1\nsteps:\n- prune: {{sparsity: 0.3, scope: global}}\n- quantize: {{method: rtn, bits: {bits}, protect: 0}}\n";
            var done = await Compressed.RunAsync(folder, file, bits == "mixed" ? recipe.Replace(", protect: 0", "") : recipe);
            return [.. done.Report.Layers.Where(l => l.Steps.Count == 2).OrderBy(l => l.Name).Select(l => l.Sparsity)];
        }
        var (mixed, eight) = (await Sparsities("mixed"), await Sparsities("8"));
        Assert.True(eight.Max() - eight.Min() > 0.1, string.Join(' ', eight));
        // Fewer bits round more weights to zero.
        Assert.All(mixed.Zip(eight), p => Assert.InRange(p.First, p.Second - 0.01, p.Second + 0.2));
        Assert.True(mixed.Max() - mixed.Min() > 0.1, string.Join(' ', mixed));
    }

    [Fact]
    public async Task A_second_pruning_goes_on_from_the_first()
    {
        using var folder = new Folder();
        var once = await Lowered.Of(folder, Net(), "prune: {sparsity: 0.7}");
        var twice = await Lowered.Of(folder, Net(), "prune: {sparsity: 0.3}", "prune: {sparsity: 0.7}");
        Assert.Equal(once.LargestWeight, twice.LargestWeight);
    }

    [Theory]
    [InlineData("- quantize: {bits: 4}\n- prune: {}\n", "line 4: 'prune' sets weights to zero before they are rounded")]
    [InlineData("- prune: {}\n- quantize: {method: binary}\n", "line 4: binary codes have no zero")]
    public void An_order_without_sense_is_refused(string steps, string why) =>
        Assert.Contains(
            why,
            Assert.Throws<BadInputException>(() => RecipeReader.Read($"version: 1\nsteps:\n{steps}", "recipe.yaml")).Message
        );
}
