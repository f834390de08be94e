using System.Diagnostics;
using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Benchmarks;

/// <summary>
/// Seconds that a low-rank approximation of an n × n matrix takes, and how much more than the best of its rank it loses, for singular
/// values that fall off and for the flat ones of a random matrix.
/// </summary>
internal static class LowRankCost
{
    public static int Run(int n, int rank)
    {
        // By hand, as the first call to each product makes its session.
        LowRank.Of(Random(1100 * 1100), 1100, 1100, 16, 1, CancellationToken.None);
        foreach (var falling in new[] { true, false })
        {
            var matrix = Random(n * n);
            if (falling)
                matrix = FallingOff(matrix, n);
            var squares = TensorPrimitives.SumOfSquares<double>(matrix);
            var clock = Stopwatch.StartNew();
            var found = LowRank.Of(matrix, n, n, rank, 1, CancellationToken.None);
            var seconds = clock.Elapsed.TotalSeconds;
            var best = falling ? Enumerable.Range(rank, n - rank).Sum(Energy) : squares * FlatRest((double)rank / n);
            Console.WriteLine(
                $"{n} x {n}, rank {rank}, {(falling ? "singular values 1/k" : "random")}: {seconds:0.00} s, "
                    + $"lost {Math.Sqrt((squares - found.Captured) / squares):0.0000}, best {Math.Sqrt(best / squares):0.0000}"
            );
        }
        return 0;
    }

    // Share of the energy of a random square matrix behind a share of its singular values, by the quarter-circle law: 2·cos(φ/2) with
    // (φ - sin φ) / π of them above, and (φ - sin(2φ)/2) / π of the energy.
    private static double FlatRest(double share)
    {
        var (low, high) = (0.0, Math.PI);
        for (var i = 0; i < 60; i++)
        {
            var middle = (low + high) / 2;
            (low, high) = middle - Math.Sin(middle) < share * Math.PI ? (middle, high) : (low, middle);
        }
        return 1 - (low - Math.Sin(2 * low) / 2) / Math.PI;
    }

    private static double Energy(int k) => 1.0 / (k + 1) / (k + 1);

    private static double[] Random(int length)
    {
        var random = new Random(1);
        var values = new double[length];
        for (var i = 0; i < length; i++)
            values[i] = NormalNumbers.Next(random);
        return values;
    }

    // Singular values 1, 1/2, 1/3 and so on, along random directions: two orthonormal bases.
    private static double[] FallingOff(double[] random, int n)
    {
        var (left, _) = OrthonormalBasis.Of(random, n, n, 2, CancellationToken.None);
        for (var i = 0; i < n; i++)
        for (var k = 0; k < n; k++)
            random[i * n + k] = left[i * n + k] / (k + 1);
        var product = new double[n * n];
        MatrixProduct.Multiply(1, random, false, left, true, null, product, n, n, n);
        return product;
    }
}
