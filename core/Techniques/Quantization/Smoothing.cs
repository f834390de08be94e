using Serverless.Core.Techniques.Calibration;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="Smoothing"/>.</summary>
public sealed record SmoothingOptions
{
    /// <summary>Migration strength α.</summary>
    [Option("Migration strength: how much of the difficulty of rounding goes from the activations into the weights (default 0.5).", Min = 0, Max = 1)]
    public double Strength { get; init; } = 0.5;

    /// <summary>Samples to observe.</summary>
    [Option("Samples to observe the channels on, at most half of the data (default 128).", Min = 1, Max = 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>
/// SmoothQuant (Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
/// eq. 4): a layer's input channels are divided by sⱼ = max|Xⱼ|^α / max|Wⱼ|^(1−α) where the input is made, and its weights
/// multiplied by it, so that channels of large activations no longer set the step of all the others.
/// </summary>
public static class Smoothing
{
    private const double Most = 1e4;

    /// <summary>What a value's channels are divided by.</summary>
    /// <param name="activations">What was observed of it.</param>
    /// <param name="before">What its channels have been divided by since; null for nothing.</param>
    /// <param name="weights">Largest magnitude of the weights that take each channel.</param>
    /// <param name="strength">α.</param>
    /// <returns>One factor a channel; null when no sample reached it or its channels are not these.</returns>
    public static double[]? Scales(ChannelStatistics? activations, double[]? before, double[] weights, double strength)
    {
        if (activations is null || activations.Count == 0 || activations.Largest.Length != weights.Length) return null;
        var scales = new double[weights.Length];
        for (var c = 0; c < scales.Length; c++)
        {
            var x = activations.Largest[c] / (before?[c] ?? 1);
            scales[c] = x > 0 && weights[c] > 0 ? Math.Clamp(Math.Pow(x, strength) / Math.Pow(weights[c], 1 - strength), 1 / Most, Most) : 1;
        }
        return scales;
    }
}
