using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques;

/// <summary>What becomes of the columns of a tile, one after another: their rounding, their pruning.</summary>
internal interface IColumnChange
{
    /// <summary>Columns whose corrected weights <see cref="Prepare"/> sees at once; 0 where it does not ask for them.</summary>
    int Span { get; }

    /// <summary>Looks at a span of columns before any of them is changed.</summary>
    /// <param name="expected">columns × rows, corrected for all columns before the span.</param>
    /// <param name="first">Position of the first column.</param>
    /// <param name="count">Columns of the span.</param>
    void Prepare(Memory<double> expected, int first, int count);

    /// <summary>Changes a column.</summary>
    /// <param name="adjusted">The weights of each row, corrected for all columns before.</param>
    /// <param name="weights">The weights as given.</param>
    /// <param name="residual">Receives the given weights less what stands in their place.</param>
    /// <param name="position">Position of the column.</param>
    /// <returns>Σ (adjusted − what stands in its place)².</returns>
    double Change(ReadOnlySpan<double> adjusted, ReadOnlySpan<double> weights, Span<double> residual, int position);
}

/// <summary>
/// The optimal brain surgeon's updates, one column after another, as of GPTQ and SparseGPT (Frantar et al. 2023, "GPTQ: Accurate
/// Post-Training Quantization for Generative Pre-trained Transformers", algorithm 1; Frantar and Alistarh 2023, "SparseGPT", algorithm 1):
/// the error of each column is made up for by those that follow. With H = M·Mᵀ, M upper triangular, the corrected column is
/// wᵢ + Σⱼ﹤ᵢ (wⱼ − qⱼ) Mⱼᵢ / Mᵢᵢ: the papers' updates by the Cholesky factor M⁻¹ of H⁻¹, rewritten so that no inverse is formed. Columns
/// before a block reach it by one product.
/// </summary>
internal static class ErrorCompensation
{
    private const int Block = 128;

    /// <summary>Changes the columns of a tile.</summary>
    /// <param name="weights">columns × rows.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="factor">M of the damped Hessian, its columns in <paramref name="order"/>.</param>
    /// <param name="order">The order in which columns are changed: position → column.</param>
    /// <param name="change">What becomes of them.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>Σ ‖(w − q)·x‖² of the rows, by the damped Hessian.</returns>
    public static double Run(
        double[] weights,
        int rows,
        CholeskyFactor factor,
        int[] order,
        IColumnChange change,
        CancellationToken cancellation
    )
    {
        var (n, span) = (order.Length, change.Span);
        var step = span == 0 ? Math.Min(Block, n) : Math.Min(n, span >= Block ? span : Block / span * span);
        var residual = new double[(long)n * rows];
        var (target, adjusted) = (new double[(long)step * rows], new double[(long)step * rows]);
        var expected = span == 0 ? [] : new double[(long)Math.Min(span, step) * rows];
        var panel = new double[(long)n * step];
        var ratio = new double[step * step];
        double error = 0;
        for (var start = 0; start < n; start += step)
        {
            cancellation.ThrowIfCancellationRequested();
            var width = Math.Min(step, n - start);
            for (var i = 0; i < width; i++)
            {
                weights.AsSpan(order[start + i] * rows, rows).CopyTo(target.AsSpan(i * rows));
                factor.CopyColumn(start + i, 0, start, 1 / factor.Diagonal(start + i), panel.AsSpan(i), width);
                factor.CopyColumn(start + i, start, i, 1 / factor.Diagonal(start + i), ratio.AsSpan(i * step), 1);
            }
            if (start == 0)
                target.AsSpan(0, width * rows).CopyTo(adjusted);
            else
                MatrixProduct.Multiply(
                    1,
                    panel.AsMemory(0, start * width),
                    true,
                    residual.AsMemory(0, start * rows),
                    false,
                    target,
                    adjusted,
                    width,
                    start,
                    rows
                );
            var part = span == 0 ? width : Math.Min(span, width);
            for (var first = 0; first < width; first += part)
            {
                var last = Math.Min(width, first + part);
                for (var i = first; i < last; i++)
                    Correct(adjusted.AsSpan(i * rows, rows), residual, ratio.AsSpan(i * step), start, 0, first);
                if (span > 0)
                {
                    // The weights as the papers' updates leave them here: those of the span corrected as if none of it were changed.
                    adjusted.AsSpan(first * rows, (last - first) * rows).CopyTo(expected);
                    for (var i = first; i < last; i++)
                    {
                        var column = expected.AsSpan((i - first) * rows, rows);
                        Correct(column, residual, ratio.AsSpan(i * step), start, first, i);
                        TensorPrimitives.Subtract(target.AsSpan(i * rows, rows), column, residual.AsSpan((start + i) * rows, rows));
                    }
                    change.Prepare(expected.AsMemory(0, (last - first) * rows), start + first, last - first);
                }
                for (var i = first; i < last; i++)
                {
                    Correct(adjusted.AsSpan(i * rows, rows), residual, ratio.AsSpan(i * step), start, first, i);
                    var diagonal = factor.Diagonal(start + i);
                    error +=
                        diagonal
                        * diagonal
                        * change.Change(
                            adjusted.AsSpan(i * rows, rows),
                            target.AsSpan(i * rows, rows),
                            residual.AsSpan((start + i) * rows, rows),
                            start + i
                        );
                }
            }
        }
        return error;
    }

    // Adds what columns from … to − 1 of the block owe to a column.
    private static void Correct(Span<double> column, double[] residual, ReadOnlySpan<double> ratio, int start, int from, int to)
    {
        for (var j = from; j < to; j++)
            TensorPrimitives.MultiplyAdd(residual.AsSpan((start + j) * column.Length, column.Length), ratio[j], column, column);
    }
}
