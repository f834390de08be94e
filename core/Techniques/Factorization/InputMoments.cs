using System.Numerics.Tensors;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>The Gram matrix H = XᵀX of a layer's inputs.</summary>
/// <param name="Gram">H, n × n.</param>
/// <param name="Rows">Rows of X.</param>
internal sealed record InputMoments(double[] Gram, long Rows)
{
    private const int MostTries = 6;

    /// <summary>
    /// H with a share of the mean of its diagonal added to it: at least the one given, more where the rows are few
    /// (<see cref="Hessian.Shrinkage"/>). Inputs that were never active have the mean.
    /// </summary>
    /// <param name="damping">The share.</param>
    /// <returns>Null where no input was active, or they are not finite.</returns>
    public double[]? Damped(double damping)
    {
        var n = (int)Math.Sqrt(Gram.Length);
        var damped = (double[])Gram.Clone();
        var (sum, active) = (0.0, 0);
        for (var i = 0; i < n; i++)
            (sum, active) = (sum + Gram[i * n + i], active + (Gram[i * n + i] != 0 ? 1 : 0));
        if (active == 0 || !Array.TrueForAll(Gram, double.IsFinite))
            return null;
        var mean = sum / active;
        var added = mean * Math.Max(damping, Hessian.Shrinkage(Gram, Rows));
        for (var i = 0; i < n; i++)
            damped[i * n + i] = (Gram[i * n + i] == 0 ? mean : Gram[i * n + i]) + added;
        return damped;
    }

    /// <summary>Mean squared error of the outputs, the trace of Dᵀ·H·D over the rows of X.</summary>
    /// <param name="lost">D, what a weight lacks: n × outputs.</param>
    /// <param name="outputs">Outputs.</param>
    public double ErrorOf(double[] lost, int outputs)
    {
        var (n, seen) = (lost.Length / outputs, new double[lost.Length]);
        MatrixProduct.Multiply(1, Gram, false, lost, false, null, seen, n, n, outputs);
        return Math.Max(0, TensorPrimitives.Dot<double>(seen, lost)) / Math.Max(1, Rows);
    }

    /// <summary>The upper factor M of a matrix, H = M·Mᵀ; of next to it where it is next to singular.</summary>
    /// <param name="moments">H, n × n; not changed.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="LayerRefusedException">It stays singular.</exception>
    public static CholeskyFactor Root(double[] moments, CancellationToken cancellation) =>
        Hessian.Of([.. moments], byMagnitude: false, Least, MostTries, cancellation)?.Factor
        ?? throw new LayerRefusedException("left as it is: the second moments of what its weights meet are singular");

    // Next to the rounding of the sums in H.
    private const double Least = 1e-12;
}
