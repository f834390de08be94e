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
/// GPTQ (Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", algorithm 1): the
/// rounding of columns whose errors <see cref="ErrorCompensation"/> makes up for.
/// </summary>
internal static class GptqSolver
{
    /// <summary>Quantizes a tile of rows.</summary>
    /// <param name="weights">columns × rows.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="factor">M of the damped Hessian, its columns in <paramref name="order"/>.</param>
    /// <param name="order">The order in which columns are rounded.</param>
    /// <param name="how">How to round.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <param name="unmasked">
    /// The weights before some of them were set to zero, for the codes to stand for; null for <paramref name="weights"/>, which say what
    /// stays zero, and whose scales are taken where they are static.
    /// </param>
    public static GptqResult Solve(
        double[] weights,
        int rows,
        CholeskyFactor factor,
        int[] order,
        GptqRounding how,
        CancellationToken cancellation,
        double[]? unmasked = null
    )
    {
        var columns = new Columns(weights, rows, order, how);
        var error = ErrorCompensation.Run(unmasked ?? weights, rows, factor, order, columns, cancellation);
        return columns.Result with { SquaredError = error };
    }

    private sealed class Columns : IColumnChange
    {
        private readonly double[] weights;
        private readonly int rows;
        private readonly int[] order;
        private readonly GptqRounding how;

        public Columns(double[] weights, int rows, int[] order, GptqRounding how)
        {
            (this.weights, this.rows, this.order, this.how) = (weights, rows, order, how);
            var n = order.Length;
            var groups = (n + how.Group - 1) / how.Group;
            Result = new GptqResult(new byte[(long)n * rows], new float[(long)groups * rows], new int[(long)groups * rows], 0);
            if (how.Static)
                for (var g = 0; g < groups; g++)
                    FindScales(weights.AsMemory(g * how.Group * rows), g, Math.Min(how.Group, n - g * how.Group));
        }

        public GptqResult Result { get; }

        public int Span => how.Static ? 0 : how.Group;

        public void Prepare(Memory<double> expected, int first, int count) => FindScales(expected, first / how.Group, count);

        public double Change(ReadOnlySpan<double> adjusted, ReadOnlySpan<double> target, Span<double> residual, int position)
        {
            var column = order[position];
            var (low, high) = BlockScale.Range(how.Bits, how.Symmetric);
            var bias = how.Symmetric ? 1 << (how.Bits - 1) : 0;
            var given = weights.AsSpan(column * rows, rows);
            var scales = Result.Scales.AsSpan(column / how.Group * rows, rows);
            var zeros = Result.Zeros.AsSpan(column / how.Group * rows, rows);
            var codes = Result.Codes.AsSpan(column * rows, rows);
            double error = 0;
            for (var r = 0; r < rows; r++)
            {
                double scale = scales[r],
                    zero = zeros[r];
                var q =
                    scale == 0 || how.Masked && given[r] == 0
                        ? Math.Clamp(zero, low, high)
                        : Math.Clamp(Math.Round(adjusted[r] / scale, MidpointRounding.ToEven) + zero, low, high);
                var value = (q - zero) * scale;
                codes[r] = (byte)(q + bias);
                residual[r] = target[r] - value;
                error += (adjusted[r] - value) * (adjusted[r] - value);
            }
            return error;
        }

        private void FindScales(Memory<double> columns, int group, int count)
        {
            var values = new float[count];
            for (var r = 0; r < rows; r++)
            {
                var column = columns.Span;
                for (var k = 0; k < count; k++)
                    values[k] = (float)column[k * rows + r];
                var found = BlockScale.Find(values, how.Bits, how.Symmetric, how.Search, how.Half, out _);
                (Result.Scales[group * rows + r], Result.Zeros[group * rows + r]) = (found.Scale, found.Zero);
            }
        }
    }
}
