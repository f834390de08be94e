using System.Numerics.Tensors;

namespace Serverless.Core.Numerics;

/// <summary>
/// Inverses of symmetric positive definite matrices, by halves: with A = [P Qᵀ; Q S] and the Schur complement T = S − Q·P⁻¹·Qᵀ, the inverse
/// is [P⁻¹ + Yᵀ·T⁻¹·Y, −Yᵀ·T⁻¹; −T⁻¹·Y, T⁻¹], Y = Q·P⁻¹ (Golub and Van Loan, "Matrix Computations", 4th ed., section 2.1.4).
/// </summary>
public static class SymmetricInverse
{
    private const int Small = 48;

    /// <summary>Inverts a matrix.</summary>
    /// <param name="a">n × n; only read.</param>
    /// <param name="n">Its order.</param>
    /// <returns>The inverse, or null where the matrix is not positive definite to working precision.</returns>
    public static double[]? Of(ReadOnlySpan<double> a, int n)
    {
        if (n <= Small)
            return OfSmall(a, n);
        var (h, t) = (n / 2, n - n / 2);
        var (p, q, s) = (Part(a, n, 0, 0, h, h), Part(a, n, h, 0, t, h), Part(a, n, h, h, t, t));
        if (Of(p, h) is not { } left)
            return null;
        var y = new double[t * h];
        MatrixProduct.Multiply(1, q, false, left, false, null, y, t, h, h);
        var schur = new double[t * t];
        MatrixProduct.Multiply(-1, y, false, q, true, s, schur, t, h, t);
        if (Of(schur, t) is not { } right)
            return null;
        var below = new double[t * h];
        MatrixProduct.Multiply(-1, right, false, y, false, null, below, t, t, h);
        var above = new double[h * h];
        MatrixProduct.Multiply(-1, y, true, below, false, left, above, h, t, h);
        var inverse = new double[(long)n * n];
        for (var i = 0; i < h; i++)
            above.AsSpan(i * h, h).CopyTo(inverse.AsSpan(i * n));
        for (var i = 0; i < t; i++)
        {
            below.AsSpan(i * h, h).CopyTo(inverse.AsSpan((h + i) * n));
            right.AsSpan(i * t, t).CopyTo(inverse.AsSpan((h + i) * n + h));
            for (var j = 0; j < h; j++)
                inverse[j * n + h + i] = below[i * h + j];
        }
        return inverse;
    }

    private static double[] Part(ReadOnlySpan<double> a, int n, int row, int column, int rows, int columns)
    {
        var part = new double[rows * columns];
        for (var i = 0; i < rows; i++)
            a.Slice((row + i) * n + column, columns).CopyTo(part.AsSpan(i * columns));
        return part;
    }

    // Gauss and Jordan, without pivots: those of such a matrix are positive.
    private static double[]? OfSmall(ReadOnlySpan<double> a, int n)
    {
        var (left, inverse) = (a[..(n * n)].ToArray(), new double[n * n]);
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
