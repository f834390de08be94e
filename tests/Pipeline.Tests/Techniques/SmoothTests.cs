using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Smoothing against Xiao et al. 2023, eq. 4, in double precision.</summary>
public class SmoothTests
{
    private const int N = 64,
        Columns = 48,
        Samples = 16;

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.8)]
    public async Task Channels_are_divided_as_in_equation_4_and_the_weights_multiplied(double strength)
    {
        using var folder = new Folder();
        var gamma = Enumerable.Range(0, N).Select(i => i % 9 == 4 ? 40f : 0.5f + i % 3).ToArray();
        var (x, weights) = (Random("x", Samples, N), Random("w", N, Columns));
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, N)
            .Initializer(Tensor("gamma", gamma, N))
            .Initializer(Tensor("beta", new float[N], N))
            .Weight("w", N, Columns)
            .With(Node("LayerNormalization", ["x", "gamma", "beta"], ["n"]), Node("MatMul", ["n", "w"], ["y"]))
            .Output("y");
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [Samples, N], MemoryMarshal.AsBytes<float>(x).ToArray()));
        var file = folder.Write("m.onnx", model);
        var recipe = FormattableString.Invariant(
            $"version: 1\nsteps:\n- smooth: {{strength: {strength}, samples: 8}}\n- quantize: {{bits: 16}}\n"
        );
        var done = await Compressed.RunAsync(folder, file, recipe, data);
        var after = ModelProto
            .Parser.ParseFrom(await File.ReadAllBytesAsync(done.File))
            .Graph.Initializer.First(t => t.DataType == (int)DataType.Float && t.Dims is [N] && Floats(t).All(v => v > 0));
        // The largest magnitude of each channel behind the normalization, over the samples seen.
        var most = new double[N];
        for (var s = 0; s < Samples / 2; s++)
        {
            var row = x.Skip(s * N).Take(N).Select(v => (double)v).ToArray();
            var (mean, deviation) = (row.Average(), Math.Sqrt(row.Average(v => Math.Pow(v - row.Average(), 2)) + 1e-5));
            for (var c = 0; c < N; c++)
                most[c] = Math.Max(most[c], Math.Abs((row[c] - mean) / deviation * gamma[c]));
        }
        for (var c = 0; c < N; c++)
        {
            var weight = Enumerable.Range(0, Columns).Max(k => Math.Abs((double)weights[c * Columns + k]));
            var scale = Math.Pow(most[c], strength) / Math.Pow(weight, 1 - strength);
            Assert.Equal(gamma[c] / scale, Floats(after)[c], 1e-3 * gamma[c] / scale);
        }
        // So the weights were multiplied by the same.
        Assert.True(done.Report.Fidelity.RelativeError < 1e-3, done.Report.Fidelity.ToString());
    }

    private static float[] Floats(TensorProto tensor) => MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray();
}
