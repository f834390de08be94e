using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Serverless.Core.Numerics;

/// <summary>The best approximation of a matrix by a product of two of a rank, in the Frobenius norm (Eckart and Young 1936).</summary>
/// <param name="Left">rows × rank, row-major.</param>
/// <param name="Right">rank × columns, row-major.</param>
/// <param name="Rank">Columns of the left factor.</param>
/// <param name="Captured">Squared norm of the product.</param>
public sealed record LowRank(double[] Left, double[] Right, int Rank, double Captured)
{
    // Above, the decomposition of the whole matrix takes minutes.
    private const int LargestExact = 1024;
    private const int Oversampling = 16,
        PowerIterations = 3;

    /// <summary>Approximates a matrix.</summary>
    /// <param name="matrix">rows × columns, row-major.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="most">The largest rank.</param>
    /// <param name="enough">Share of the squared norm, from 0 to 1, from which on a smaller rank is taken; 1 for the largest rank.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static LowRank Of(Memory<double> matrix, int rows, int columns, int most, double enough, CancellationToken cancellation)
    {
        if (rows > columns)
        {
            var turned = new double[matrix.Length];
            Transpose(matrix.Span, rows, columns, turned);
            var found = Of(turned, columns, rows, most, enough, cancellation);
            var (left, right) = (new double[found.Right.Length], new double[found.Left.Length]);
            Transpose(found.Right, found.Rank, rows, left);
            Transpose(found.Left, columns, found.Rank, right);
            return new LowRank(left, right, found.Rank, found.Captured);
        }
        return rows <= LargestExact
            ? Exact(matrix, rows, columns, most, enough)
            : Randomized(matrix, rows, columns, most, enough, cancellation);
    }

    /// <summary>
    /// Two factors of columns and rows as long as each other, so that neither has numbers that a coarse grid cannot hold: of singular
    /// vectors, each gets the square root of the singular value.
    /// </summary>
    /// <param name="left">rows × rank; changed.</param>
    /// <param name="right">rank × columns; changed.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="rank">Rank.</param>
    /// <param name="captured">Squared norm of what they capture.</param>
    public static LowRank Balanced(double[] left, double[] right, int rows, int columns, int rank, double captured)
    {
        for (var k = 0; k < rank; k++)
        {
            double above = 0;
            for (var i = 0; i < rows; i++)
                above += left[i * rank + k] * left[i * rank + k];
            var below = TensorPrimitives.Norm<double>(right.AsSpan(k * columns, columns));
            var factor = Math.Sqrt(below / Math.Sqrt(above));
            if (!(factor > 0) || !double.IsFinite(factor) || !double.IsFinite(1 / factor))
                continue;
            for (var i = 0; i < rows; i++)
                left[i * rank + k] *= factor;
            TensorPrimitives.Divide(right.AsSpan(k * columns, columns), factor, right.AsSpan(k * columns, columns));
        }
        return new LowRank(left, right, rank, captured);
    }

    private static LowRank Exact(Memory<double> matrix, int rows, int columns, int most, double enough)
    {
        var (values, vectors) = Eigen(Gram(matrix, rows, columns), rows);
        var (rank, captured) = Enough(values, matrix.Span, most, enough);
        return Factors(matrix, Columns(vectors, rows, rank), rows, columns, rank, captured);
    }

    // Of the matrix projected onto a basis that spans nearly what its largest singular vectors do.
    private static LowRank Randomized(Memory<double> matrix, int rows, int columns, int most, double enough, CancellationToken cancellation)
    {
        var width = Math.Min(rows, most + Oversampling);
        var basis = Range(matrix, rows, columns, width, cancellation);
        var projected = new double[width * columns];
        MatrixProduct.Multiply(1, basis, true, matrix, false, null, projected, width, rows, columns);
        var (values, vectors) = Eigen(Gram(projected, width, columns), width);
        var (rank, captured) = Enough(values, matrix.Span, most, enough);
        var left = new double[rows * rank];
        MatrixProduct.Multiply(1, basis, false, Columns(vectors, width, rank), false, null, left, rows, width, rank);
        return Factors(matrix, left, rows, columns, rank, captured);
    }

    private static (int Rank, double Captured) Enough(double[] values, ReadOnlySpan<double> matrix, int most, double enough)
    {
        var wanted = enough < 1 ? enough * TensorPrimitives.SumOfSquares(matrix) : double.PositiveInfinity;
        var (rank, captured) = (0, 0.0);
        while (rank < Math.Min(most, values.Length) && (rank == 0 || captured < wanted))
            captured += Math.Max(0, values[rank++]);
        return (rank, captured);
    }

    private static LowRank Factors(Memory<double> matrix, double[] left, int rows, int columns, int rank, double captured)
    {
        var right = new double[rank * columns];
        MatrixProduct.Multiply(1, left, true, matrix, false, null, right, rank, rows, columns);
        return Balanced(left, right, rows, columns, rank, captured);
    }

    private static double[] Columns(Matrix<double> vectors, int rows, int count)
    {
        var columns = new double[rows * count];
        for (var i = 0; i < rows; i++)
        for (var k = 0; k < count; k++)
            columns[i * count + k] = vectors[i, k];
        return columns;
    }

    private static void Transpose(ReadOnlySpan<double> matrix, int rows, int columns, Span<double> turned)
    {
        for (var i = 0; i < rows; i++)
        for (var j = 0; j < columns; j++)
            turned[j * rows + i] = matrix[i * columns + j];
    }

    // Orthonormal columns that span nearly what the largest singular vectors do (Halko, Martinsson, Tropp 2011, algorithm 4.4).
    private static double[] Range(Memory<double> matrix, int rows, int columns, int width, CancellationToken cancellation)
    {
        var random = new Random(1);
        var start = new double[columns * width];
        for (var i = 0; i < start.Length; i++)
            start[i] = NormalNumbers.Next(random);
        var basis = new double[rows * width];
        for (var i = 0; i <= PowerIterations; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (i > 0)
                MatrixProduct.Multiply(1, matrix, true, basis, false, null, start, columns, rows, width);
            MatrixProduct.Multiply(1, matrix, false, start, false, null, basis, rows, columns, width);
            Orthonormalize(basis, rows, width);
        }
        return basis;
    }

    private static void Orthonormalize(double[] columns, int rows, int width)
    {
        var q = Matrix<double>.Build.DenseOfRowMajor(rows, width, columns).QR().Q;
        for (var i = 0; i < rows; i++)
        for (var k = 0; k < width; k++)
            columns[i * width + k] = q[i, k];
    }

    private static double[] Gram(Memory<double> matrix, int rows, int columns)
    {
        var gram = new double[rows * rows];
        MatrixProduct.Multiply(1, matrix, false, matrix, true, null, gram, rows, columns, rows);
        return gram;
    }

    // Largest first.
    private static (double[] Values, Matrix<double> Vectors) Eigen(double[] symmetric, int size)
    {
        var found = Matrix<double>.Build.DenseOfRowMajor(size, size, symmetric).Evd(Symmetricity.Symmetric);
        var order = Enumerable.Range(0, size).OrderByDescending(i => found.EigenValues[i].Real).ToList();
        return (
            [.. order.Select(i => found.EigenValues[i].Real)],
            Matrix<double>.Build.DenseOfColumnVectors(order.Select(i => found.EigenVectors.Column(i)))
        );
    }
}
