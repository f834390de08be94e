using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>
/// Bias correction (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", section
/// 4.2 and appendix D): biases take up what rounding shifts each channel's mean by.
/// </summary>
public sealed record BiasCorrectionOptions
{
    /// <summary>
    /// Let biases make up for the shift that rounding gives each channel's mean, measured on data (default true; without this step only for
    /// static int8).
    /// </summary>
    public bool Apply { get; init; } = true;

    /// <summary>Samples to measure the shift on, of those calibrated on (default 32).</summary>
    [Range(1, 10_000)]
    public int Samples { get; init; } = 32;
}

/// <summary>Bias correction (Nagel et al. 2019): biases take up the shift that rounding gives each channel's mean.</summary>
public sealed class CorrectBiases : GraphTechnique<BiasCorrectionOptions>
{
    /// <inheritdoc/>
    public override string Step => "correctBias";

    /// <inheritdoc/>
    public override string About => "Biases take up the shift that rounding gives each channel's mean (Nagel et al. 2019).";

    /// <inheritdoc/>
    public override StepOrder Order => StepOrder.Last;
}
