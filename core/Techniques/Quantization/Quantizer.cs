namespace Serverless.Core.Techniques.Quantization;

/// <summary>A technique that rounds the weights of a layer to codes.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Quantizer<TOptions> : LayerTechnique<TOptions>
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public sealed override string Step => "quantize";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded)
            ? "a step before quantizes the layers already; give one 'quantize', and rules under 'layers' for what differs"
            : null;

    /// <inheritdoc/>
    public sealed override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Coded;
}
