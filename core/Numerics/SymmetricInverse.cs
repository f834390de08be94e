using System.Numerics.Tensors;

namespace Serverless.Core.Numerics;

/// <summary>Inverses of symmetric positive definite matrices, by their Cholesky factors.</summary>
public static class SymmetricInverse
{
    private const int Small = 48;

    /// <summary>Inverts a matrix.</summary>
    /// <param name="a">n × n; only read.</param>
    /// <param name="n">Its order.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The inverse, or null where the matrix is not positive definite to working precision.</returns>
    public static double[]? Of(double[] a, int n, CancellationToken cancellation)
    {
        if (n <= Small)
            return OfSmall(a, n);
        int[] order = [.. Enumerable.Range(0, n)];
        if (CholeskyFactor.Of(a, order, 0, cancellation) is not { } factor)
            return null;
        var inverse = new double[(long)n * n];
        for (var i = 0; i < n; i++)
            inverse[i * n + i] = 1;
        factor.Solve(inverse, n, order, cancellation);
        return inverse;
    }

    // Gauss and Jordan, without pivots: those of such a matrix are positive.
    private static double[]? OfSmall(double[] a, int n)
    {
        var (left, inverse) = (a[..(n * n)], new double[n * n]);
        for (var i = 0; i < n; i++)
            inverse[i * n + i] = 1;
        for (var k = 0; k < n; k++)
        {
            var pivot = left[k * n + k];
            if (!(pivot > 0) || !double.IsFinite(pivot))
                return null;
            var row = left.AsSpan(k * n, n);
            var other = inverse.AsSpan(k * n, n);
            TensorPrimitives.Divide(row, pivot, row);
            TensorPrimitives.Divide(other, pivot, other);
            for (var i = 0; i < n; i++)
            {
                if (i == k || left[i * n + k] is var factor && factor == 0)
                    continue;
                TensorPrimitives.MultiplyAdd(row, -factor, left.AsSpan(i * n, n), left.AsSpan(i * n, n));
                TensorPrimitives.MultiplyAdd(other, -factor, inverse.AsSpan(i * n, n), inverse.AsSpan(i * n, n));
            }
        }
        return inverse;
    }
}
