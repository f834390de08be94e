using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Half-quadratic quantization against its paper's iteration (Badri and Shaji 2023) in double precision.</summary>
public class HqqTests
{
    private const int K = 192,
        N = 40;
    private const double Norm = 0.7,
        FirstBeta = 10,
        Kappa = 1.01;

    [Theory]
    [InlineData(4, 64)]
    [InlineData(3, 32)]
    [InlineData(2, 0)]
    public async Task Zero_points_are_those_of_the_half_quadratic_solver(int bits, int group)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var lowered = await Lowered.Of(
            folder,
            model,
            $"quantize: {{method: hqq, bits: {bits}, group: {(group == 0 ? "channel" : $"{group}")}, protect: 0}}"
        );
        var (decoded, length) = (lowered.LargestWeight, group == 0 ? K : group);
        for (var n = 0; n < N; n++)
        for (var from = 0; from < K; from += length)
        {
            var block = Enumerable.Range(from, length).Select(k => (double)weights[k * N + n]).ToArray();
            var expected = Solve(block, (1 << bits) - 1);
            for (var k = 0; k < length; k++)
                Assert.Equal(expected[k], decoded[(from + k) * N + n], 0.002 * block.Max(Math.Abs));
        }
    }

    private static double[] Solve(double[] w, int top)
    {
        double scale = (double)(Half)((w.Max() - w.Min()) / top),
            zero = (double)(Half)(-w.Min() / scale),
            beta = FirstBeta;
        double Code(double x, double z) => Math.Clamp(Math.Round(x / scale + z, MidpointRounding.ToEven), 0, top);
        double[] Decoded(double z) => [.. w.Select(x => (Code(x, z) - z) * scale)];
        double Error(double z) => w.Zip(Decoded(z), (x, d) => Math.Pow(Math.Abs(x - d), Norm)).Sum();
        var (best, least) = (zero, Error(zero));
        for (var i = 0; i < 20; i++)
        {
            // W_e: the error where its p-norm shrinks it; z: the mean of codes less what is left, in steps.
            var errors = w.Zip(Decoded(zero), (x, d) => Shrunk(x - d, beta)).ToArray();
            zero = (double)(Half)w.Select((x, k) => Code(x, zero) - (x - errors[k]) / scale).Average();
            beta *= Kappa;
            var error = Error(zero);
            if (error >= least)
                break;
            (best, least) = (zero, error);
        }
        return Decoded(best);
    }

    private static double Shrunk(double x, double beta) =>
        x == 0 ? 0 : Math.Sign(x) * Math.Max(0, Math.Abs(x) - Math.Pow(Math.Abs(x), Norm - 1) / beta);
}
