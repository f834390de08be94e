namespace Serverless.Core.Techniques;

/// <summary>A technique that works on the model as a whole: a graph in, a graph out.</summary>
public abstract class GraphTechnique : Technique;

/// <summary>A technique whose options are a <typeparamref name="TOptions"/>.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class GraphTechnique<TOptions> : GraphTechnique
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public sealed override Type OptionsType => typeof(TOptions);

    /// <inheritdoc/>
    public sealed override string? WhyInvalid(object options) => WhyInvalid((TOptions)options);

    /// <inheritdoc/>
    public sealed override object Settled(object options) => Settled((TOptions)options);

    /// <inheritdoc cref="Technique.WhyInvalid"/>
    protected virtual string? WhyInvalid(TOptions options) => null;

    /// <inheritdoc cref="Technique.Settled"/>
    protected virtual TOptions Settled(TOptions options) => options;
}
