using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Weights of what is left of a layer's input that make its outputs best: min ‖X·Wᵀ − X_S·W'ᵀ‖² + λ‖(W' − W₀)·√D‖² (He et al. 2017,
/// "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1, step ii; the ridge draws to W₀, the weights as they were).
/// </summary>
internal static class LeastSquares
{
    private const double Harder = 10;
    private const int Tries = 5;

    /// <summary>Solves for a layer whose input lost some columns.</summary>
    /// <param name="weights">W, rows × n.</param>
    /// <param name="moments">XᵀX / count, n × n.</param>
    /// <param name="rows">Rows of W.</param>
    /// <param name="kept">The columns that stay.</param>
    /// <param name="damping">λ.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>W', rows × n, zero where nothing stays; null where the matrix stays singular.</returns>
    public static double[]? Refit(
        double[] weights,
        double[] moments,
        int rows,
        IReadOnlyList<int> kept,
        double damping,
        CancellationToken cancellation
    )
    {
        var n = weights.Length / rows;
        var m = kept.Count;
        var (square, across, start) = (new double[m * m], new double[n * m], new double[rows * m]);
        for (var i = 0; i < n; i++)
        for (var j = 0; j < m; j++)
            across[i * m + j] = moments[i * n + kept[j]];
        for (var i = 0; i < m; i++)
            across.AsSpan(kept[i] * m, m).CopyTo(square.AsSpan(i * m));
        for (var r = 0; r < rows; r++)
        for (var j = 0; j < m; j++)
            start[r * m + j] = weights[r * n + kept[j]];
        var target = new double[rows * m];
        MatrixProduct.Multiply(1, weights, false, across, false, null, target, rows, n, m);
        if (Solve(square, target, start, rows, damping, cancellation) is not { } solved)
            return null;
        var whole = new double[rows * n];
        for (var r = 0; r < rows; r++)
        for (var j = 0; j < m; j++)
            whole[r * n + kept[j]] = solved[r * m + j];
        return whole;
    }

    /// <summary>
    /// W' = (C + λ·W₀·D)·(G + λ·D)⁻¹, D = diag G: the ridge weighs each input by its own energy, so that a few large ones do not drown it,
    /// and inputs are scaled to 1 while the system is solved.
    /// </summary>
    /// <param name="square">G, m × m; changed.</param>
    /// <param name="target">C, rows × m.</param>
    /// <param name="start">W₀, rows × m.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="damping">λ.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static double[]? Solve(
        double[] square,
        double[] target,
        double[] start,
        int rows,
        double damping,
        CancellationToken cancellation
    )
    {
        var m = start.Length / rows;
        var scales = Scale(square, m);
        if (scales is null)
            return null;
        int[] order = [.. Enumerable.Range(0, m)];
        for (var t = 0; t < Tries; t++, damping *= Harder)
        {
            if (CholeskyFactor.Of(square, order, damping, cancellation) is not { } factor)
                continue;
            // Column by column: the factor takes right sides so.
            var solved = new double[target.Length];
            for (var r = 0; r < rows; r++)
            for (var i = 0; i < m; i++)
                solved[i * rows + r] = target[r * m + i] / scales[i] + damping * start[r * m + i] * scales[i];
            factor.Solve(solved, rows, order, cancellation);
            var weights = new double[target.Length];
            for (var r = 0; r < rows; r++)
            for (var i = 0; i < m; i++)
                weights[r * m + i] = solved[i * rows + r] / scales[i];
            return Array.TrueForAll(weights, double.IsFinite) ? weights : null;
        }
        return null;
    }

    /// <summary>
    /// Divides rows and columns by the roots of the diagonal, which becomes 1; where it is 0, an input that was never active, by 1.
    /// </summary>
    /// <param name="square">n × n; changed.</param>
    /// <param name="n">Its order.</param>
    /// <returns>The roots; null where the diagonal is not finite, or zero.</returns>
    public static double[]? Scale(double[] square, int n)
    {
        var scales = new double[n];
        for (var i = 0; i < n; i++)
            scales[i] = square[i * n + i] > 0 ? Math.Sqrt(square[i * n + i]) : 0;
        if (!Array.TrueForAll(scales, double.IsFinite) || Array.TrueForAll(scales, s => s == 0))
            return null;
        for (var i = 0; i < n; i++)
            if (scales[i] == 0)
                (scales[i], square[i * n + i]) = (1, 1);
        for (var i = 0; i < n; i++)
        for (var j = 0; j < n; j++)
            square[i * n + j] /= scales[i] * scales[j];
        return scales;
    }

    /// <summary>tr(W·G·Wᵀ): the energy of the outputs.</summary>
    public static double Energy(double[] weights, double[] moments, int rows)
    {
        var n = weights.Length / rows;
        var product = new double[weights.Length];
        MatrixProduct.Multiply(1, weights, false, moments, false, null, product, rows, n, n);
        return System.Numerics.Tensors.TensorPrimitives.Dot<double>(product, weights);
    }
}
