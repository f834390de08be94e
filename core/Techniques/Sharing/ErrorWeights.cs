using Serverless.Core.Techniques.Pruning;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// What the squared error of a weight counts by: Σ x² of its input over the samples, the diagonal of the Hessian of the layer's squared
/// output error (Choi et al. 2017, "Towards the Limit of Network Quantization", section 3.3). A hundredth of the mean is added, so that
/// weights of inputs that were never active count a little.
/// </summary>
internal static class ErrorWeights
{
    private const double Damping = 0.01;

    /// <summary>The weights of each group of rows, mean 1; each an array of as many as a row has elements.</summary>
    /// <param name="work">The layer, with squares of its input.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<double[][]> OfAsync(LayerWork work, CancellationToken cancellation)
    {
        var squares = await ObservedInput.SquaresAsync(work.Input!, cancellation);
        return [.. squares.Select(Damped)];
    }

    /// <summary>Weights of squares.</summary>
    public static double[] Damped(double[] squares)
    {
        var mean = squares.Average();
        return mean > 0 && double.IsFinite(mean)
            ? Array.ConvertAll(squares, s => (s / mean + Damping) / (1 + Damping))
            : Array.ConvertAll(squares, _ => 1.0);
    }

    /// <summary>The group of a row.</summary>
    public static double[] Of(double[][] weights, long row, long rows) => weights[row / (rows / weights.Length)];
}
