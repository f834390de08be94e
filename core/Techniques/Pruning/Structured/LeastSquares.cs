using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Weights of what is left of a layer's input that make its outputs best: min ‖X·Wᵀ − X_S·W'ᵀ‖² + λ‖W' − W₀‖² (He et al. 2017, "Channel
/// Pruning for Accelerating Very Deep Neural Networks", section 3.1, step ii; the ridge draws to W₀, the weights as they were).
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
    /// <param name="damping">λ over the mean of the diagonal.</param>
    /// <returns>W', rows × n, zero where nothing stays; null where the matrix stays singular.</returns>
    public static double[]? Refit(double[] weights, double[] moments, int rows, IReadOnlyList<int> kept, double damping)
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
        if (Solve(square, target, start, rows, damping) is not { } solved)
            return null;
        var whole = new double[rows * n];
        for (var r = 0; r < rows; r++)
        for (var j = 0; j < m; j++)
            whole[r * n + kept[j]] = solved[r * m + j];
        return whole;
    }

    /// <summary>W' = (C + λ·W₀)·(G + λ·I)⁻¹.</summary>
    /// <param name="square">G, m × m; its diagonal is changed.</param>
    /// <param name="target">C, rows × m.</param>
    /// <param name="start">W₀, rows × m.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="damping">λ over the mean of the diagonal.</param>
    public static double[]? Solve(double[] square, double[] target, double[] start, int rows, double damping)
    {
        var m = start.Length / rows;
        double trace = 0;
        for (var i = 0; i < m; i++)
            trace += square[i * m + i];
        if (!(trace > 0) || !double.IsFinite(trace))
            return null;
        var before = 0.0;
        for (var t = 0; t < Tries; t++, damping *= Harder)
        {
            var ridge = damping * trace / m;
            for (var i = 0; i < m; i++)
                square[i * m + i] += ridge - before;
            before = ridge;
            if (SymmetricInverse.Of(square, m) is not { } inverse)
                continue;
            var right = new double[target.Length];
            for (var i = 0; i < right.Length; i++)
                right[i] = target[i] + ridge * start[i];
            var solved = new double[right.Length];
            MatrixProduct.Multiply(1, right, false, inverse, false, null, solved, rows, m, m);
            return Array.TrueForAll(solved, double.IsFinite) ? solved : null;
        }
        return null;
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
