using System.Runtime.InteropServices;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Activation-aware quantization against Lin et al. 2024, eq. 4 and 5, in double precision.</summary>
public class AwqTests
{
    private const int K = 64,
        N = 32,
        Samples = 64;

    [Theory]
    [InlineData(0)]
    [InlineData(0.35)]
    [InlineData(1)]
    public void Inputs_are_divided_by_powers_of_their_mean_magnitudes(double alpha)
    {
        var sums = Enumerable.Range(1, K).Select(i => (double)i * i).ToArray();
        var factors = Awq.Factors(new ChannelStatistics(new float[K], new float[K], new double[K], sums, 10), K, alpha);
        var scales = sums.Select(s => Math.Pow(s / 10, alpha)).ToArray();
        var centre = Math.Sqrt(scales.Max() * scales.Min());
        for (var k = 0; k < K; k++)
            Assert.Equal(alpha == 0 ? 1 : centre / scales[k], factors[k], 0.001 * centre / scales[k]);
    }

    // Rounding to nearest is the exponent of zero, one of those tried: no other may leave more on what was observed.
    [Fact]
    public async Task The_weights_decoded_leave_less_on_the_samples_seen_than_rounding_to_nearest()
    {
        using var folder = new Folder();
        var x = Random("x", Samples, K).Select((v, i) => i % K % 16 == 3 ? 30 * v : v).ToArray();
        var weights = Random("w", K, N);
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [Samples, K], MemoryMarshal.AsBytes<float>(x).ToArray()));
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var file = folder.Write("m.onnx", model);
        async Task<double> Left(string options)
        {
            var done = await Compressed.RunAsync(folder, file, $"version: 1\nsteps:\n- quantize: {{{options}, protect: 0}}\n", data);
            var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
            var decoded = new Lowered(new Dictionary<string, Core.Forms.EncodedLayer>(), [], graph).LargestWeight;
            double sum = 0;
            for (var s = 0; s < Samples / 2; s++)
            for (var n = 0; n < N; n++)
            {
                double e = 0;
                for (var k = 0; k < K; k++)
                    e += x[s * K + k] * ((double)decoded[k * N + n] - weights[k * N + n]);
                sum += e * e;
            }
            return sum;
        }
        var (nearest, awq) = (await Left("method: rtn, bits: 3, symmetric: false"), await Left("method: awq, bits: 3"));
        Assert.True(awq < 0.8 * nearest, $"{awq} {nearest}");
    }
}
