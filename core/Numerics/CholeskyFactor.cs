using System.Numerics.Tensors;

namespace Serverless.Core.Numerics;

/// <summary>
/// The factor M of a symmetric positive definite matrix, H = M·Mᵀ with M upper triangular: the Cholesky factor taken from
/// the last row up, so that M⁻ᵀ·M⁻¹ = H⁻¹ needs no inverse to be formed. Left-looking over block columns, whose updates are
/// matrix products (Golub and Van Loan, "Matrix Computations", 4th ed., algorithm 4.2.10).
/// </summary>
public sealed class CholeskyFactor
{
    private const int Width = 128;
    private readonly int n;

    // Block columns of L, where L·Lᵀ is H with rows and columns in reverse: column block b holds rows b·Width to n.
    private readonly double[][] blocks;

    private CholeskyFactor(int n, double[][] blocks) => (this.n, this.blocks) = (n, blocks);

    /// <summary>M[i, i].</summary>
    public double Diagonal(int i) => At(n - 1 - i, n - 1 - i);

    /// <summary>
    /// Copies M[from … from + count, column], a part of a column above its diagonal, scaled, into every <paramref name="stride"/>th
    /// element.
    /// </summary>
    public void CopyColumn(int column, int from, int count, double factor, Span<double> target, int stride)
    {
        var c = n - 1 - column;
        var (block, width) = (blocks[c / Width], WidthOf(c / Width));
        var start = c / Width * Width;
        for (var i = 0; i < count; i++)
            target[i * stride] = factor * block[(n - 1 - from - i - start) * width + c - start];
    }

    /// <summary>M as a whole: n × n, row-major, zeros below its diagonal.</summary>
    public double[] ToUpper()
    {
        var upper = new double[(long)n * n];
        for (var j = 0; j < n; j++)
            CopyColumn(j, 0, j + 1, 1, upper.AsSpan(j), n);
        return upper;
    }

    /// <summary>Factors a matrix.</summary>
    /// <param name="h">n × n, symmetric; only read.</param>
    /// <param name="order">Row and column i of the matrix factored is row and column <c>order[i]</c> of <paramref name="h"/>.</param>
    /// <param name="damping">Added to the diagonal.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The factor, or null when the matrix is not positive definite to working precision.</returns>
    public static CholeskyFactor? Of(ReadOnlyMemory<double> h, int[] order, double damping, CancellationToken cancellation)
    {
        var n = order.Length;
        var count = (n + Width - 1) / Width;
        var blocks = new double[count][];
        var inverse = new double[Width * Width];
        for (var b = 0; b < count; b++)
        {
            cancellation.ThrowIfCancellationRequested();
            var start = b * Width;
            var (rows, width) = (n - start, Math.Min(Width, n - start));
            var (column, updated) = (new double[(long)rows * width], b == 0 ? [] : new double[(long)rows * width]);
            Gather(h.Span, order, n, start, width, damping, column);
            for (var p = 0; p < b; p++)
            {
                // Rows `start` on of block column p lie in order.
                var before = blocks[p].AsMemory((start - p * Width) * Width);
                MatrixProduct.Multiply(-1, before, false, before, true, column, updated, rows, Width, width);
                (column, updated) = (updated, column);
            }
            if (!FactorDiagonal(column, width))
                return null;
            if (rows > width)
            {
                Invert(column, width, inverse);
                var below = new double[(long)(rows - width) * width];
                MatrixProduct.Multiply(1, column.AsMemory(width * width), false, inverse, true, null, below, rows - width, width, width);
                below.CopyTo(column, width * width);
            }
            blocks[b] = column;
        }
        return new CholeskyFactor(n, blocks);
    }

    /// <summary>
    /// Solves H·x = b for several right sides, by substitution forwards and back, which keeps the residual small however H is conditioned
    /// (Golub and Van Loan, algorithms 3.1.3 and 3.1.4, by blocks).
    /// </summary>
    /// <param name="rights">n × columns; becomes the solutions.</param>
    /// <param name="columns">Right sides.</param>
    /// <param name="order">The order that the matrix was factored in.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public void Solve(double[] rights, int columns, int[] order, CancellationToken cancellation)
    {
        var x = new double[rights.Length];
        for (var i = 0; i < n; i++)
            rights.AsSpan(order[n - 1 - i] * columns, columns).CopyTo(x.AsSpan(i * columns));
        var updated = new double[rights.Length];
        for (var b = 0; b < blocks.Length; b++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (start, width, below) = (b * Width, WidthOf(b), n - b * Width - WidthOf(b));
            Substitute(blocks[b], width, x.AsSpan(start * columns, width * columns), columns, back: false);
            if (below == 0)
                continue;
            var (rest, solved) = (x.AsMemory((start + width) * columns), x.AsMemory(start * columns, width * columns));
            MatrixProduct.Multiply(-1, blocks[b].AsMemory(width * width), false, solved, false, rest, updated, below, width, columns);
            updated.AsSpan(0, below * columns).CopyTo(rest.Span);
        }
        for (var b = blocks.Length - 1; b >= 0; b--)
        {
            cancellation.ThrowIfCancellationRequested();
            var (start, width, below) = (b * Width, WidthOf(b), n - b * Width - WidthOf(b));
            var own = x.AsMemory(start * columns, width * columns);
            if (below > 0)
            {
                var rest = x.AsMemory((start + width) * columns);
                MatrixProduct.Multiply(-1, blocks[b].AsMemory(width * width), true, rest, false, own, updated, width, below, columns);
                updated.AsSpan(0, width * columns).CopyTo(own.Span);
            }
            Substitute(blocks[b], width, own.Span, columns, back: true);
        }
        for (var i = 0; i < n; i++)
            x.AsSpan(i * columns, columns).CopyTo(rights.AsSpan(order[n - 1 - i] * columns));
    }

    // L·z = x in place, L the square at the top of a block column; or Lᵀ·z = x.
    private static void Substitute(ReadOnlySpan<double> l, int width, Span<double> x, int columns, bool back)
    {
        for (var step = 0; step < width; step++)
        {
            var i = back ? width - 1 - step : step;
            var row = x.Slice(i * columns, columns);
            for (var k = back ? i + 1 : 0; k < (back ? width : i); k++)
                TensorPrimitives.MultiplyAdd(x.Slice(k * columns, columns), -(back ? l[k * width + i] : l[i * width + k]), row, row);
            TensorPrimitives.Divide(row, l[i * width + i], row);
        }
    }

    private double At(int row, int column)
    {
        var b = column / Width;
        return blocks[b][(row - b * Width) * WidthOf(b) + column - b * Width];
    }

    private int WidthOf(int block) => Math.Min(Width, n - block * Width);

    private static void Gather(ReadOnlySpan<double> h, int[] order, int n, int start, int width, double damping, double[] column)
    {
        for (var r = start; r < n; r++)
        {
            var row = h.Slice(order[n - 1 - r] * n, n);
            for (var c = 0; c < width; c++)
                column[(r - start) * width + c] = row[order[n - 1 - start - c]];
            if (r < start + width)
                column[(r - start) * width + r - start] += damping;
        }
    }

    // The unblocked factor of the leading square, in place, its upper part zeroed.
    private static bool FactorDiagonal(Span<double> a, int n)
    {
        for (var j = 0; j < n; j++)
        {
            var row = a.Slice(j * n, n);
            var d = row[j] - TensorPrimitives.SumOfSquares<double>(row[..j]);
            if (!(d > 0) || !double.IsFinite(d))
                return false;
            d = row[j] = Math.Sqrt(d);
            for (var i = j + 1; i < n; i++)
            {
                var other = a.Slice(i * n, n);
                other[j] = (other[j] - TensorPrimitives.Dot<double>(other[..j], row[..j])) / d;
            }
            row[(j + 1)..].Clear();
        }
        return true;
    }

    // The inverse of a lower triangle: row i of it is (eᵢ − Σ L[i,k] · row k) / L[i,i].
    private static void Invert(ReadOnlySpan<double> l, int n, Span<double> inverse)
    {
        inverse[..(n * n)].Clear();
        for (var i = 0; i < n; i++)
        {
            var row = inverse.Slice(i * n, n);
            row[i] = 1;
            for (var k = 0; k < i; k++)
                TensorPrimitives.MultiplyAdd(inverse.Slice(k * n, k + 1), -l[i * n + k], row[..(k + 1)], row[..(k + 1)]);
            TensorPrimitives.Multiply(row[..(i + 1)], 1 / l[i * n + i], row[..(i + 1)]);
        }
    }
}
