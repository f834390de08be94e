using Serverless.Core.Techniques.Scaling;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Cross-layer equalization against Nagel et al. 2019, eq. 11, in double precision.</summary>
public class EqualizeTests
{
    private const int N = 48;

    [Fact]
    public void One_pair_is_scaled_as_in_equation_11()
    {
        var (first, second) = (Widest(1), Widest(2));
        var scales = Assert.Single(Solve([first, second], 1))!;
        for (var c = 0; c < N; c++)
        {
            // Rows of the first weight's columns, of the second one's rows: x·W₁, then relu, then ·W₂.
            var (r1, r2) = (Column(first, c), Row(second, c));
            Assert.Equal(Math.Sqrt(r1 * r2) / r2, scales[c], 1e-9);
        }
    }

    [Fact]
    public void Three_layers_come_to_ranges_that_are_the_same_on_both_sides_of_every_value()
    {
        float[][,] widest = [Widest(1), Widest(2), Widest(3)];
        var scales = Solve(widest, 1000);
        Assert.Equal(2, scales.Count);
        for (var c = 0; c < N; c++)
        {
            // The middle weight is divided by the second value's scales and multiplied by the first one's.
            var into = Enumerable.Range(0, N).Max(r => widest[1][r, c] * scales[0]![r]) / scales[1]![c];
            Assert.Equal(1, into / (Row(widest[2], c) * scales[1]![c]), 0.01);
            var before = Column(widest[0], c) / scales[0]![c];
            var after = Enumerable.Range(0, N).Max(k => widest[1][c, k] / scales[1]![k]) * scales[0]![c];
            Assert.Equal(1, before / after, 0.01);
        }
    }

    private static IReadOnlyList<double[]?> Solve(float[][,] widest, int rounds)
    {
        var model = OfOpset(17).Input("x0", DataType.Float, 1, N);
        for (var i = 0; i < widest.Length; i++)
            model.Weight($"w{i}", N, N).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"h{i}"]), Node("Relu", [$"h{i}"], [$"x{i + 1}"]));
        var values = ChannelScaling.Of(model.Output($"x{widest.Length}"));
        var options = new EqualizationOptions { Rounds = rounds };
        return Equalization.Solve(values, c => widest[int.Parse(c.Tensor.Name[1..])], options);
    }

    private static float[,] Widest(int seed)
    {
        var random = new Random(seed);
        var values = new float[N, N];
        for (var r = 0; r < N; r++)
        for (var c = 0; c < N; c++)
            values[r, c] = 0.01f + random.NextSingle() * (1 + c % 7);
        return values;
    }

    private static double Column(float[,] values, int c) => Enumerable.Range(0, N).Max(r => values[r, c]);

    private static double Row(float[,] values, int r) => Enumerable.Range(0, N).Max(c => values[r, c]);
}
