using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Pruning by weights and activations against Sun et al. 2024, eq. 1, in double precision.</summary>
public class WandaTests
{
    private const int K = 48,
        N = 20,
        Samples = 64;

    // Some inputs are thirty times as loud as the others.
    private static readonly float[] Inputs = [.. Random("x", Samples, K).Select((v, i) => i % K % 16 == 3 ? 30 * v : v)];

    [Theory]
    [InlineData(0.25)]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public async Task Of_each_output_the_weights_of_least_product_with_the_norm_of_the_input_become_zero(double sparsity)
    {
        var weights = Random("w", K, N);
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var found = await PruneAsync(model, FormattableString.Invariant($"method: wanda, sparsity: {sparsity}"), [Samples, K]);
        var norms = Norms(k => k);
        for (var n = 0; n < N; n++)
        {
            var kept = Enumerable.Range(0, K).OrderByDescending(k => Math.Abs(weights[k * N + n]) * norms[k]).Take(K - (int)(sparsity * K));
            var expected = new float[K];
            foreach (var k in kept)
                expected[k] = weights[k * N + n];
            Assert.Equal(expected, Enumerable.Range(0, K).Select(k => found[k * N + n]));
        }
    }

    // Two groups of 24 inputs make 10 outputs each.
    [Fact]
    public async Task A_grouped_convolution_has_norms_of_each_group()
    {
        var weights = Random("w", N, K / 2, 1, 1);
        var conv = Node("Conv", ["x", "w"], ["y"], Core.Model.ModelEdit.Attribute("group", 2L));
        var model = OfOpset(17).Input("x", DataType.Float, 1, K, 1, 1).Weight("w", N, K / 2, 1, 1).With(conv).Output("y");
        var found = await PruneAsync(model, "method: wanda", [Samples, K, 1, 1]);
        for (var n = 0; n < N; n++)
        {
            var norms = Norms(k => n / (N / 2) * K / 2 + k);
            var row = weights.AsSpan(n * K / 2, K / 2).ToArray();
            var limit = row.Select((w, k) => Math.Abs(w) * norms[k]).Order().Skip(K / 4).First();
            Assert.Equal(row.Select((w, k) => Math.Abs(w) * norms[k] < limit ? 0 : w), found[(n * K / 2)..((n + 1) * K / 2)]);
        }
    }

    [Fact]
    public async Task On_real_samples_the_outputs_are_nearer_than_by_magnitude()
    {
        using var folder = new Folder();
        var (file, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var (magnitude, wanda) = (
            await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- prune: {sparsity: 0.6}\n", data),
            await Compressed.RunAsync(folder, file, "version: 1\nsteps:\n- prune: {method: wanda, sparsity: 0.6}\n", data)
        );
        Assert.True(
            wanda.Report.Fidelity.RelativeError < 0.8 * magnitude.Report.Fidelity.RelativeError,
            $"{wanda.Report.Fidelity} {magnitude.Report.Fidelity}"
        );
    }

    [Fact]
    public async Task Quantization_behind_it_sees_the_same_samples_and_keeps_the_zeros()
    {
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var pruned = await PruneAsync(model, "method: wanda", [Samples, K]);
        var coded = await PruneAsync(model, "method: wanda", [Samples, K], "- quantize: {method: gptq, bits: 8, protect: 0}\n");
        Assert.All(pruned.Zip(coded), p => Assert.True(p.First != 0 || p.Second == 0));
    }

    // The samples that are not held out: the first half.
    private static double[] Norms(Func<int, int> input) =>
        [
            .. Enumerable
                .Range(0, K)
                .Select(k =>
                    Math.Sqrt(Enumerable.Range(0, Samples / 2).Sum(s => Math.Pow(input(k) < K ? Inputs[s * K + input(k)] : 0, 2)))
                ),
        ];

    private static async Task<float[]> PruneAsync(ModelProto model, string options, long[] shape, string behind = "")
    {
        using var folder = new Folder();
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", shape, MemoryMarshal.AsBytes<float>(Inputs).ToArray()));
        var file = folder.Write("m.onnx", model);
        var done = await Compressed.RunAsync(folder, file, $"version: 1\nsteps:\n- prune: {{{options}}}\n{behind}", data);
        var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
        return new Lowered(new Dictionary<string, Core.Forms.EncodedLayer>(), [], graph).LargestWeight;
    }
}
