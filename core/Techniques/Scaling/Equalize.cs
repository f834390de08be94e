namespace Serverless.Core.Techniques.Scaling;

/// <summary>Options of <see cref="Equalize"/>.</summary>
public sealed record EqualizationOptions
{
    /// <summary>Rounds at most.</summary>
    [Option("Rounds over all pairs of layers at most (default 20).", Min = 1, Max = 1000)]
    public int Rounds { get; init; } = 20;
}

/// <summary>The step <c>equalize</c> (<see cref="Equalization"/>).</summary>
public sealed class Equalize : GraphTechnique<EqualizationOptions>
{
    /// <inheritdoc/>
    public override string Step => "equalize";

    /// <inheritdoc/>
    public override string About => "Channels as wide in a layer's weights as in the next one's, without data (Nagel et al. 2019).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'equalize' scales weights before they are rounded: put it in front of 'quantize'" : null;
}
