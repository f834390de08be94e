using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>How <see cref="GptqSolver"/> rounds.</summary>
/// <param name="Bits">Bits a code: 2 to 8.</param>
/// <param name="Symmetric">No zero points.</param>
/// <param name="Group">Weights of a row that share a scale.</param>
/// <param name="Static">Scales are those of the weights as given, so that columns may be taken in any order; else of the weights as
/// corrected so far.</param>
/// <param name="Search">How scales are found.</param>
/// <param name="Half">Scales are FLOAT16.</param>
/// <param name="Masked">Weights that are zero stay zero, as SparseGPT has it (Frantar and Alistarh 2023, section 3.5).</param>
internal sealed record GptqRounding(int Bits, bool Symmetric, int Group, bool Static, ScaleSearch Search, bool Half, bool Masked = false);

/// <summary>Codes and scales of a tile of rows, column by column: element (column, row) at <c>column · rows + row</c>.</summary>
internal sealed record GptqResult(byte[] Codes, float[] Scales, int[] Zeros, double SquaredError);

/// <summary>
/// GPTQ (Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
/// algorithm 1): columns are rounded one after another, and the error of each is made up for by those that follow. With
/// H = M·Mᵀ, M upper triangular, the corrected column is wᵢ + Σⱼ﹤ᵢ (wⱼ − qⱼ) Mⱼᵢ / Mᵢᵢ: the paper's updates by the
/// Cholesky factor M⁻¹ of H⁻¹, rewritten so that no inverse is formed. Columns before a block reach it by one product.
/// </summary>
internal static class GptqSolver
{
    private const int Block = 128;

    /// <summary>Quantizes a tile of rows.</summary>
    /// <param name="weights">columns × rows.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="factor">M of the damped Hessian, its columns in <paramref name="order"/>.</param>
    /// <param name="order">The order in which columns are rounded.</param>
    /// <param name="how">How to round.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static GptqResult Solve(
        double[] weights,
        int rows,
        CholeskyFactor factor,
        int[] order,
        GptqRounding how,
        CancellationToken cancellation
    )
    {
        var n = order.Length;
        var groups = (n + how.Group - 1) / how.Group;
        var step = how.Static ? Math.Min(Block, n) : Math.Min(n, how.Group >= Block ? how.Group : Block / how.Group * how.Group);
        var result = new GptqResult(new byte[(long)n * rows], new float[(long)groups * rows], new int[(long)groups * rows], 0);
        var residual = new double[(long)n * rows];
        var (target, adjusted) = (new double[(long)step * rows], new double[(long)step * rows]);
        var expected = how.Static ? [] : new double[(long)Math.Min(how.Group, step) * rows];
        var panel = new double[(long)n * step];
        var ratio = new double[step * step];
        double error = 0;
        if (how.Static)
            for (var g = 0; g < groups; g++)
                FindScales(weights.AsMemory(g * how.Group * rows), rows, g, how, Math.Min(how.Group, n - g * how.Group), result);
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
            var part = how.Static ? width : Math.Min(how.Group, width);
            for (var first = 0; first < width; first += part)
            {
                var last = Math.Min(width, first + part);
                for (var i = first; i < last; i++)
                    Correct(adjusted.AsSpan(i * rows, rows), residual, ratio.AsSpan(i * step), start, 0, first);
                if (!how.Static)
                {
                    // The weights as the paper's updates leave them here: those of the group corrected as if none of it were rounded.
                    adjusted.AsSpan(first * rows, (last - first) * rows).CopyTo(expected);
                    for (var i = first; i < last; i++)
                    {
                        var column = expected.AsSpan((i - first) * rows, rows);
                        Correct(column, residual, ratio.AsSpan(i * step), start, first, i);
                        TensorPrimitives.Subtract(target.AsSpan(i * rows, rows), column, residual.AsSpan((start + i) * rows, rows));
                    }
                    FindScales(expected, rows, (start + first) / how.Group, how, last - first, result);
                }
                for (var i = first; i < last; i++)
                {
                    Correct(adjusted.AsSpan(i * rows, rows), residual, ratio.AsSpan(i * step), start, first, i);
                    var diagonal = factor.Diagonal(start + i);
                    error +=
                        diagonal
                        * diagonal
                        * Round(
                            adjusted.AsSpan(i * rows, rows),
                            target.AsSpan(i * rows, rows),
                            residual.AsSpan((start + i) * rows, rows),
                            order[start + i],
                            rows,
                            how,
                            result
                        );
                }
            }
        }
        return result with { SquaredError = error };
    }

    // Adds what columns from … to − 1 of the block owe to a column.
    private static void Correct(Span<double> column, double[] residual, ReadOnlySpan<double> ratio, int start, int from, int to)
    {
        for (var j = from; j < to; j++)
            TensorPrimitives.MultiplyAdd(residual.AsSpan((start + j) * column.Length, column.Length), ratio[j], column, column);
    }

    private static double Round(
        ReadOnlySpan<double> adjusted,
        ReadOnlySpan<double> weights,
        Span<double> residual,
        int column,
        int rows,
        GptqRounding how,
        GptqResult result
    )
    {
        var (low, high) = BlockScale.Range(how.Bits, how.Symmetric);
        var bias = how.Symmetric ? 1 << (how.Bits - 1) : 0;
        var scales = result.Scales.AsSpan(column / how.Group * rows, rows);
        var zeros = result.Zeros.AsSpan(column / how.Group * rows, rows);
        var codes = result.Codes.AsSpan(column * rows, rows);
        double error = 0;
        for (var r = 0; r < rows; r++)
        {
            double scale = scales[r],
                zero = zeros[r];
            var q =
                scale == 0 || how.Masked && weights[r] == 0
                    ? Math.Clamp(zero, low, high)
                    : Math.Clamp(Math.Round(adjusted[r] / scale, MidpointRounding.ToEven) + zero, low, high);
            var value = (q - zero) * scale;
            codes[r] = (byte)(q + bias);
            residual[r] = weights[r] - value;
            error += (adjusted[r] - value) * (adjusted[r] - value);
        }
        return error;
    }

    private static void FindScales(Memory<double> columns, int rows, int group, GptqRounding how, int count, GptqResult result)
    {
        var values = new float[count];
        for (var r = 0; r < rows; r++)
        {
            var column = columns.Span;
            for (var k = 0; k < count; k++)
                values[k] = (float)column[k * rows + r];
            var found = BlockScale.Find(values, how.Bits, how.Symmetric, how.Search, how.Half, out _);
            (result.Scales[group * rows + r], result.Zeros[group * rows + r]) = (found.Scale, found.Zero);
        }
    }
}
