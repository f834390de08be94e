namespace Serverless.Core.Techniques.Sharing;

/// <summary>A technique that lets the weights of a layer share the codewords of a codebook.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class CodebookStep<TOptions> : LayerTechnique<TOptions>
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public sealed override string Step => "share";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded)
            ? "a step before makes codes of the layers already; give one of 'quantize' and 'share', and rules under 'layers' for what differs"
            : null;

    /// <inheritdoc/>
    public sealed override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Coded;
}

/// <summary>Numbers that the weights of each row are divided by before a codebook is made of them.</summary>
public enum RowScale
{
    /// <summary>None.</summary>
    None,

    /// <summary>The root of the mean square of the row, as FLOAT16.</summary>
    Row,
}

/// <summary>What a weight's error counts by.</summary>
public enum ErrorWeight
{
    /// <summary>
    /// The diagonal of the Hessian of the layer's squared output error: E[x²] of the input that the weight is multiplied with.
    /// </summary>
    Hessian,

    /// <summary>Each the same.</summary>
    None,
}
