using System.Runtime.InteropServices;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>SparseGPT beside Wanda and magnitudes, and with a quantization behind it.</summary>
public class SparseGptTests
{
    private const int K = 64,
        N = 48,
        Samples = 400;

    private static readonly string Digits = Path.Combine(RealModels.Digits, "digits.onnx");
    private static readonly string Data = Path.Combine(RealModels.Digits, "data.npz");

    [Theory]
    [InlineData("sparsity: 0.5")]
    [InlineData("pattern: \"2:4\"")]
    [InlineData("pattern: 1x4, sparsity: 0.4")]
    public async Task Of_a_real_model_the_outputs_are_nearest_and_those_of_wanda_nearer_than_by_magnitude(string options)
    {
        using var folder = new Folder();
        async Task<double> ErrorAsync(string method)
        {
            var recipe = $"version: 1\nsteps:\n- prune: {{method: {method}, {options}}}\n";
            var done = await Compressed.RunAsync(folder, Digits, recipe, Data);
            return await done.ErrorAsync(Digits, Data, 200);
        }
        var (magnitude, wanda, sparsegpt) = (await ErrorAsync("magnitude"), await ErrorAsync("wanda"), await ErrorAsync("sparsegpt"));
        Assert.True(wanda < magnitude, $"{wanda} {magnitude}");
        Assert.True(sparsegpt < 0.7 * wanda, $"{sparsegpt} {wanda}");
    }

    // A MatMul, whose rows are columns of the stored matrix, and a convolution, whose rows are not; in either precision.
    [Theory]
    [InlineData(false, DataType.Float)]
    [InlineData(true, DataType.Float)]
    [InlineData(false, DataType.Float16)]
    public async Task On_correlated_inputs_the_output_is_nearest(bool conv, DataType type)
    {
        var inputs = Correlated();
        var errors = new List<double>();
        foreach (var method in new[] { "magnitude", "wanda", "sparsegpt" })
        {
            var (before, after) = await PruneAsync(conv, type, inputs, $"method: {method}, sparsity: 0.6");
            var zeros = after.Count(w => w == 0) / (double)after.Length;
            Assert.InRange(zeros, 0.59, 0.601);
            errors.Add(OutputError(before, after, inputs, conv));
        }
        Assert.True(errors[1] < errors[0] && errors[2] < 0.5 * errors[1], string.Join(' ', errors));
    }

    [Theory]
    [InlineData("magnitude")]
    [InlineData("wanda")]
    public async Task Rounding_in_the_same_chain_makes_up_for_the_pruning_too(string method)
    {
        var prune = $"- prune: {{method: {method}, sparsity: 0.5}}\n";
        const string Round = "- quantize: {method: gptq, bits: 4, protect: 0}\n";
        using var folder = new Folder();
        var joint = await Compressed.RunAsync(folder, Digits, $"version: 1\nsteps:\n{prune}{Round}", Data);
        // A step on the model in between ends the chain: rounding sees the pruned weights alone.
        var apart = await Compressed.RunAsync(folder, Digits, $"version: 1\nsteps:\n{prune}- equalize: {{}}\n{Round}", Data);
        var (together, sequential) = (await joint.ErrorAsync(Digits, Data, 200), await apart.ErrorAsync(Digits, Data, 200));
        Assert.True(together < sequential, $"{together} {sequential}");
        Assert.All(joint.Report.Layers.Where(l => l.Steps.Count == 2), l => Assert.True(l.Sparsity >= 0.49, $"{l.Name} {l.Sparsity}"));
    }

    // Its weights make up for one another already, in another order than rounding takes them.
    [Fact]
    public async Task Rounding_takes_the_weights_that_sparsegpt_left_as_they_are()
    {
        using var folder = new Folder();
        const string Prune = "version: 1\nsteps:\n- prune: {method: sparsegpt, sparsity: 0.5}\n";
        var pruned = await Compressed.RunAsync(folder, Digits, Prune, Data);
        var both = await Compressed.RunAsync(folder, Digits, Prune + "- quantize: {method: gptq, bits: 4, protect: 0}\n", Data);
        var (before, after) = (await pruned.ErrorAsync(Digits, Data, 200), await both.ErrorAsync(Digits, Data, 200));
        Assert.True(after < 1.3 * before, $"{after} {before}");
    }

    [Fact]
    public async Task Rounds_observe_the_model_that_the_round_before_left()
    {
        using var folder = new Folder();
        const string Recipe = "version: 1\nsteps:\n- prune: {method: sparsegpt, sparsity: 0.6, rounds: 3}\n";
        var done = await Compressed.RunAsync(folder, Digits, Recipe, Data);
        var layers = done.Report.Layers.Where(l => l.Steps.Count > 0).ToList();
        Assert.All(layers, l => Assert.Equal(3, l.Steps.Count));
        Assert.All(layers, l => Assert.Equal(0.6, l.Sparsity, 0.01));
        var once = await Compressed.RunAsync(folder, Digits, Recipe.Replace(", rounds: 3", ""), Data);
        Assert.True(await done.ErrorAsync(Digits, Data, 200) < 1.3 * await once.ErrorAsync(Digits, Data, 200));
    }

    [Fact]
    public async Task A_layer_whose_input_is_not_known_is_pruned_by_magnitude_and_the_report_says_so()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 3, 4, 8)
            .Weight("w", 3, 8, 40)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- prune: {method: sparsegpt, pattern: \"2:4\"}\n");
        var layer = Assert.Single(done.Report.Layers);
        Assert.Equal("pruned by magnitude: it is a batch of matrices", layer.Fallback);
        Assert.Equal(0.5, layer.Sparsity, 1e-9);
    }

    private static double OutputError(float[] before, float[] after, float[] inputs, bool conv)
    {
        double sum = 0;
        // The samples that are held out.
        for (var s = Samples / 2; s < Samples; s++)
        for (var n = 0; n < N; n++)
        {
            double off = 0;
            for (var k = 0; k < K; k++)
            {
                var at = conv ? n * K + k : k * N + n;
                off += inputs[s * K + k] * ((double)before[at] - after[at]);
            }
            sum += off * off;
        }
        return sum;
    }

    private static float[] Correlated()
    {
        var (mix, noise) = (Random("mix", K, K / 4), Random("noise", Samples, K));
        var hidden = Random("hidden", Samples, K / 4);
        return
        [
            .. Enumerable
                .Range(0, Samples * K)
                .Select(i =>
                    (i % K % 8 == 0 ? 4 : 1)
                    * (0.3f * noise[i] + Enumerable.Range(0, K / 4).Sum(j => 10 * mix[i % K * (K / 4) + j] * hidden[i / K * (K / 4) + j]))
                ),
        ];
    }

    private static async Task<(float[] Before, float[] After)> PruneAsync(bool conv, DataType type, float[] inputs, string options)
    {
        using var folder = new Folder();
        var (before, dims) = (Random("w", conv ? [N, K, 1, 1] : [K, N]), conv ? new long[] { N, K, 1, 1 } : [K, N]);
        before = [.. before.Select(w => (float)(Half)w)];
        var half = type == DataType.Float16;
        var weight = half
            ? Tensor("h", type, MemoryMarshal.AsBytes<Half>(before.Select(w => (Half)w).ToArray()), dims)
            : Tensor("w", before, dims);
        var model = OfOpset(17).Input("x", DataType.Float, conv ? [1, K, 1, 1] : [1, K]).Initializer(weight);
        if (half)
            model = model.With(Node("Cast", ["h"], ["w"], Core.Model.ModelEdit.Attribute("to", (long)DataType.Float)));
        model = model.With(Node(conv ? "Conv" : "MatMul", ["x", "w"], ["y"])).Output("y");
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", conv ? [Samples, K, 1, 1] : [Samples, K], MemoryMarshal.AsBytes<float>(inputs).ToArray()));
        var file = folder.Write("m.onnx", model);
        var done = await Compressed.RunAsync(folder, file, $"version: 1\nsteps:\n- prune: {{{options}}}\n", data);
        var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
        return (before, new Lowered(new Dictionary<string, Core.Forms.EncodedLayer>(), [], graph).LargestWeight);
    }
}
