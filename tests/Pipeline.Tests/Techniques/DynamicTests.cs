using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Dynamic int8 against the same arithmetic in whole numbers and double precision.</summary>
public class DynamicTests
{
    private const int Rows = 3,
        K = 96,
        N = 40;

    [Fact]
    public async Task Outputs_are_products_of_rounded_inputs_and_rounded_weights()
    {
        using var folder = new Folder();
        var (x, weights, bias) = (Random("x", Rows, K), Random("w", K, N), Random("b", N));
        var model = OfOpset(17)
            .Input("x", DataType.Float, Rows, K)
            .Weight("w", K, N)
            .Weight("b", N)
            .With(Node("Gemm", ["x", "w", "b"], ["y"]))
            .Output("y");
        // Seven bits: nothing saturates, on any processor.
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- quantize: {method: dynamic, onlyIfFaster: false, reduceRange: yes}\n"
        );
        Assert.Equal("Dynamic", done.Report.Layers.Single(l => l.Name == "w").Form);
        var (y, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
        // uint8 of the whole input, its range with zero in it; int8 of each column.
        double low = Math.Min(0, x.Min()),
            high = Math.Max(0, x.Max()),
            step = (high - low) / 255,
            zero = Math.Round(-low / step, MidpointRounding.ToEven);
        var codes = x.Select(v => Math.Clamp(Math.Round(v / step, MidpointRounding.ToEven) + zero, 0, 255) - zero).ToArray();
        var largest = y.Max(Math.Abs);
        for (var n = 0; n < N; n++)
        {
            var scale = Enumerable.Range(0, K).Max(k => Math.Abs((double)weights[k * N + n])) / 63;
            for (var r = 0; r < Rows; r++)
            {
                double sum = 0;
                for (var k = 0; k < K; k++)
                    sum += codes[r * K + k] * Math.Round(weights[k * N + n] / scale, MidpointRounding.ToEven);
                Assert.Equal(sum * step * scale + bias[n], y[r * N + n], 1e-3 * largest);
            }
        }
    }
}
