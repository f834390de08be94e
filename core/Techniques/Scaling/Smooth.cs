namespace Serverless.Core.Techniques.Scaling;

/// <summary>Options of <see cref="Smooth"/>.</summary>
public sealed record SmoothingOptions
{
    /// <summary>Migration strength α; null to find it for each value.</summary>
    [Option(
        "Migration strength: how much of the difficulty of rounding goes from the activations into the weights. Default: for each output of a normalization the one, 0.05 apart, whose rounding error is least, or none; what layers make is left as it is.",
        Min = 0,
        Max = 1
    )]
    public double? Strength { get; init; }

    /// <summary>Whether nodes are put in.</summary>
    [Option("Where a normalization's output is taken by others too, put a Mul before the matrix products that take it (default true).")]
    public bool Insert { get; init; } = true;

    /// <summary>Samples to observe.</summary>
    [Option("Samples to observe the channels on, at most half of the data (default 128).", Min = 1, Max = 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>The step <c>smooth</c> (<see cref="Smoothing"/>).</summary>
public sealed class Smooth : GraphTechnique<SmoothingOptions>
{
    /// <inheritdoc/>
    public override string Step => "smooth";

    /// <inheritdoc/>
    public override string About => "Large channels of activations moved into the weights that take them (Xiao et al. 2023, SmoothQuant).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'smooth' scales weights before they are rounded: put it in front of 'quantize'" : null;
}
