namespace Serverless.Core.Techniques.Scaling;

/// <summary>
/// SmoothQuant (Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
/// eq. 4): a layer's input channels are divided by sⱼ = max|Xⱼ|^α / max|Wⱼ|^(1−α) where the input is made, and its weights
/// multiplied by it, so that channels of large activations no longer set the step of all the others. Where others take the input
/// too, as in transformers that normalize behind the sum (BERT), a Mul divides it before its matrix products.
/// α is given, or the best for each value that a normalization makes (<see cref="SmoothingSearch"/>).
/// </summary>
public static class Smoothing
{
    private const double Most = 1e4;

    /// <summary>What a value's channels are divided by.</summary>
    /// <param name="activations">Largest magnitude of each.</param>
    /// <param name="weights">Largest magnitude of the weights that take it.</param>
    /// <param name="strength">α.</param>
    /// <returns>One factor a channel; 1 for one that is always zero, or whose weights are.</returns>
    public static double[] Scales(double[] activations, double[] weights, double strength) =>
        [
            .. activations.Select(
                (x, c) =>
                    x > 0 && weights[c] > 0 ? Math.Clamp(Math.Pow(x, strength) / Math.Pow(weights[c], 1 - strength), 1 / Most, Most) : 1
            ),
        ];
}
