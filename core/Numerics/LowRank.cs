using System.Numerics.Tensors;

namespace Serverless.Core.Numerics;

/// <summary>The best approximation of a matrix by a product of two of a rank, in the Frobenius norm (Eckart and Young 1936).</summary>
/// <param name="Left">rows × rank, row-major.</param>
/// <param name="Right">rank × columns, row-major.</param>
/// <param name="Rank">Columns of the left factor.</param>
/// <param name="Captured">Squared norm of the product.</param>
public sealed record LowRank(double[] Left, double[] Right, int Rank, double Captured)
{
    // Above, the decomposition of the whole matrix takes seconds, then minutes.
    private const int LargestExact = 768;
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
        return rows <= LargestExact || most > rows / 2
            ? Exact(matrix, rows, columns, most, enough)
            : Randomized(matrix, rows, columns, most, enough, cancellation);
    }

    /// <summary>The left singular vectors of what was approximated, as columns: rows × rank, row-major.</summary>
    public double[] LeftVectors()
    {
        var (vectors, rows) = ((double[])Left.Clone(), Rank == 0 ? 0 : Left.Length / Rank);
        for (var k = 0; k < Rank; k++)
        {
            double squares = 0;
            for (var i = 0; i < rows; i++)
                squares += vectors[i * Rank + k] * vectors[i * Rank + k];
            for (var i = 0; i < rows; i++)
                vectors[i * Rank + k] *= squares > 0 ? 1 / Math.Sqrt(squares) : 0;
        }
        return vectors;
    }

    /// <summary>The right singular vectors, as rows: rank × columns, row-major.</summary>
    public double[] RightVectors()
    {
        var (vectors, columns) = ((double[])Right.Clone(), Rank == 0 ? 0 : Right.Length / Rank);
        for (var k = 0; k < Rank; k++)
        {
            var vector = vectors.AsSpan(k * columns, columns);
            var norm = TensorPrimitives.Norm<double>(vector);
            TensorPrimitives.Multiply(vector, norm > 0 ? 1 / norm : 0, vector);
        }
        return vectors;
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
        var (values, vectors) = SymmetricEigen.Of(Gram(matrix, rows, columns), rows);
        var (rank, captured) = Enough(values, matrix.Span, most, enough);
        return Factors(matrix, Columns(vectors, rows, rank), rows, columns, rank, captured);
    }

    // Of the matrix projected onto a basis that spans nearly what its largest singular vectors do.
    private static LowRank Randomized(Memory<double> matrix, int rows, int columns, int most, double enough, CancellationToken cancellation)
    {
        var (basis, width) = Range(matrix, rows, columns, Math.Min(rows, most + Math.Max(Oversampling, most / 8)), cancellation);
        var projected = new double[width * columns];
        MatrixProduct.Multiply(1, basis, true, matrix, false, null, projected, width, rows, columns);
        var (values, vectors) = SymmetricEigen.Of(Gram(projected, width, columns), width);
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

    private static double[] Columns(double[] vectors, int rows, int count)
    {
        var (width, columns) = (vectors.Length / rows, new double[rows * count]);
        for (var i = 0; i < rows; i++)
            vectors.AsSpan(i * width, count).CopyTo(columns.AsSpan(i * count));
        return columns;
    }

    private static void Transpose(ReadOnlySpan<double> matrix, int rows, int columns, Span<double> turned)
    {
        for (var i = 0; i < rows; i++)
        for (var j = 0; j < columns; j++)
            turned[j * rows + i] = matrix[i * columns + j];
    }

    // Orthonormal columns that span nearly what the largest singular vectors do (Halko, Martinsson, Tropp 2011, algorithm 4.4).
    private static (double[] Basis, int Width) Range(
        Memory<double> matrix,
        int rows,
        int columns,
        int width,
        CancellationToken cancellation
    )
    {
        var random = new Random(1);
        var other = new double[columns * width];
        for (var i = 0; i < other.Length; i++)
            other[i] = NormalNumbers.Next(random);
        var basis = Half(false, other, width, 1);
        for (var i = 1; i <= PowerIterations; i++)
        {
            var turned = Half(true, basis.Columns, basis.Width, 1);
            basis = Half(false, turned.Columns, turned.Width, i == PowerIterations ? 2 : 1);
        }
        return basis;

        (double[] Columns, int Width) Half(bool transposed, double[] from, int width, int passes)
        {
            var (tall, shared) = transposed ? (columns, rows) : (rows, columns);
            var product = new double[tall * width];
            MatrixProduct.Multiply(1, matrix, transposed, from, false, null, product, tall, shared, width);
            return OrthonormalBasis.Of(product, tall, width, passes, cancellation);
        }
    }

    private static double[] Gram(Memory<double> matrix, int rows, int columns)
    {
        var gram = new double[rows * rows];
        MatrixProduct.Multiply(1, matrix, false, matrix, true, null, gram, rows, columns, rows);
        return gram;
    }
}
