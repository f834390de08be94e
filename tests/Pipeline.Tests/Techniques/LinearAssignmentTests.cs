using Serverless.Core.Numerics;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>The linear assignment is the best of all.</summary>
public class LinearAssignmentTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(7)]
    public void It_is_the_best_of_all_orders(int n)
    {
        for (var seed = 0; seed < 40; seed++)
        {
            var random = new Random(seed);
            // Ties too.
            var gains = Enumerable.Range(0, n * n).Select(_ => seed % 2 == 0 ? NormalNumbers.Next(random) : random.Next(4)).ToArray();
            var order = LinearAssignment.Maximize(gains, n, default);
            Assert.Equal(Enumerable.Range(0, n), order.Order());
            Assert.Equal(Best(gains, n, 0, 0), order.Select((column, row) => gains[row * n + column]).Sum(), 1e-9);
        }
    }

    [Fact]
    public void A_hidden_order_is_found()
    {
        const int Units = 300,
            Length = 8;
        var random = new Random(3);
        var hidden = Enumerable.Range(0, Units).ToArray();
        random.Shuffle(hidden);
        var a = Enumerable.Range(0, Units * Length).Select(_ => NormalNumbers.Next(random)).ToArray();
        var gains = new double[Units * Units];
        for (var i = 0; i < Units; i++)
        for (var j = 0; j < Units; j++)
        for (var k = 0; k < Length; k++)
            gains[i * Units + j] -= Math.Pow(a[i * Length + k] - a[hidden[j] * Length + k], 2);
        var order = LinearAssignment.Maximize(gains, Units, default);
        Assert.Equal(Enumerable.Range(0, Units), order.Select(j => hidden[j]));
    }

    private static double Best(double[] gains, int n, int row, int taken)
    {
        if (row == n)
            return 0;
        return Enumerable
            .Range(0, n)
            .Where(j => (taken >> j & 1) == 0)
            .Max(j => gains[row * n + j] + Best(gains, n, row + 1, taken | 1 << j));
    }
}
