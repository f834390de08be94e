using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Least squares behind a first factor that projects the inputs block by block: the second factor whose outputs are nearest to the
/// layer's.
/// </summary>
/// <param name="Solved">The second factor, blocks × rank × outputs.</param>
/// <param name="Moments">Moments of what it sees, (blocks · rank)².</param>
internal sealed record BlockRefit(double[] Solved, double[] Moments)
{
    /// <summary>Solves for the second factor.</summary>
    /// <param name="moments">Moments of the inputs, block by block, n × n.</param>
    /// <param name="weight">The weight, n × outputs, its rows in the same order.</param>
    /// <param name="outputs">Outputs.</param>
    /// <param name="lefts">The first factor of each block, rows of a block × rank.</param>
    /// <param name="rank">The rank.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static BlockRefit Of(
        double[] moments,
        double[] weight,
        int outputs,
        IReadOnlyList<double[]> lefts,
        int rank,
        CancellationToken cancellation
    )
    {
        var (n, width) = (weight.Length / outputs, lefts.Count * rank);
        var once = Projected(moments, n, lefts, rank, cancellation);
        var twice = Projected(KernelSplit.Turned(once, width, n), width, lefts, rank, cancellation);
        var solved = new double[width * outputs];
        MatrixProduct.Multiply(1, once, false, weight, false, null, solved, width, n, outputs);
        InputMoments.Root(twice, cancellation).Solve(solved, outputs, [.. Enumerable.Range(0, width)], cancellation);
        return new BlockRefit(solved, twice);
    }

    // Rows of a matrix, block by block, through the first factors.
    private static double[] Projected(double[] matrix, int columns, IReadOnlyList<double[]> lefts, int rank, CancellationToken cancellation)
    {
        var (projected, rows) = (new double[lefts.Count * rank * columns], matrix.Length / columns / lefts.Count);
        for (var b = 0; b < lefts.Count; b++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (from, to) = (matrix.AsMemory(b * rows * columns, rows * columns), projected.AsMemory(b * rank * columns, rank * columns));
            MatrixProduct.Multiply(1, lefts[b], true, from, false, null, to, rank, rows, columns);
        }
        return projected;
    }
}
