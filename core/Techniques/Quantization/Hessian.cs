using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>The damped second moments of a layer's input, factored, with the order in which its columns are taken.</summary>
/// <param name="Factor">M of M·Mᵀ = the damped matrix in <paramref name="Order"/>.</param>
/// <param name="Order">Position → column.</param>
/// <param name="Dead">Inputs that were never active.</param>
internal sealed record Hessian(CholeskyFactor Factor, int[] Order, int Dead)
{
    private const double Harder = 10,
        Most = 1000;

    /// <summary>Of inputs that nothing is known of: each column is rounded to nearest.</summary>
    /// <param name="gram">The matrix in whose place it stands; overwritten.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static Hessian Unknown(double[] gram, CancellationToken cancellation)
    {
        var n = Size(gram);
        Array.Clear(gram);
        for (var i = 0; i < n; i++)
            gram[i * n + i] = 1;
        var order = Enumerable.Range(0, n).ToArray();
        return new Hessian(CholeskyFactor.Of(gram, order, 0, cancellation)!, order, n);
    }

    /// <summary>Damps and factors a Gram matrix; ten times harder each time it fails.</summary>
    /// <param name="gram">XᵀX, order × order; the diagonal of inputs that were never active is set to the mean of the others.</param>
    /// <param name="byMagnitude">Columns of large diagonal first; else as they are.</param>
    /// <param name="damping">Share of the mean diagonal that is added.</param>
    /// <param name="tries">Attempts.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <param name="together">Columns that stay beside each other; what they leave over comes last.</param>
    /// <returns>The factor, or null when the matrix stays singular.</returns>
    public static Hessian? Of(double[] gram, bool byMagnitude, double damping, int tries, CancellationToken cancellation, int together = 1)
    {
        var n = Size(gram);
        var diagonal = new double[n];
        for (var i = 0; i < n; i++)
            diagonal[i] = gram[i * n + i];
        var dead = diagonal.Count(d => d == 0);
        if (dead == n || !diagonal.All(double.IsFinite))
            return null;
        var mean = diagonal.Sum() / (n - dead);
        for (var i = 0; i < n; i++)
            if (diagonal[i] == 0)
                gram[i * n + i] = mean;
        var order = Enumerable.Range(0, n).ToArray();
        if (byMagnitude)
            order = [.. order.OrderByDescending(Together).ThenBy(i => i)];
        for (var t = 0; t < tries; t++, damping *= Harder)
            if (CholeskyFactor.Of(gram, order, damping * mean, cancellation) is { } factor)
                return new Hessian(factor, order, dead);
        return null;

        double Together(int i)
        {
            var first = i / together * together;
            return first + together > n ? double.NegativeInfinity : diagonal.AsSpan(first, together).ToArray().Sum();
        }
    }

    /// <summary>
    /// The damping that so few rows call for: S + λ·mean(diag S)·I is, but for a factor, the oracle approximating shrinkage of the
    /// covariance, (1 − ρ)·S + ρ·mean(diag S)·I with λ = ρ / (1 − ρ) (Chen, Wiesel, Eldar, Hero 2010, "Shrinkage Algorithms for MMSE
    /// Covariance Estimation", eq. 23). Next to nothing with many more rows than columns; with fewer, what the rows never reached
    /// would take up the error of all the rest.
    /// </summary>
    /// <param name="gram">XᵀX, order × order.</param>
    /// <param name="rows">Rows of X.</param>
    public static double Shrinkage(double[] gram, long rows)
    {
        double n = Size(gram),
            trace = 0;
        for (var i = 0; i < (int)n; i++)
            trace += gram[i * (int)n + i];
        var squares = System.Numerics.Tensors.TensorPrimitives.SumOfSquares<double>(gram);
        var shrinkage = ((1 - 2 / n) * squares + trace * trace) / ((rows + 1 - 2 / n) * (squares - trace * trace / n));
        return shrinkage is > 0 and < Most / (1 + Most) ? shrinkage / (1 - shrinkage) : Most;
    }

    private static int Size(double[] gram) => (int)Math.Sqrt(gram.Length);
}
