namespace Serverless.Core.Techniques.Pruning;

/// <summary>Sets weights to zero in front of whatever rounds them; later steps keep them zero.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class PruningStep<TOptions> : LayerTechnique<TOptions>
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public override string Step => "prune";

    /// <inheritdoc/>
    public override bool Repeats => true;

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'prune' sets weights to zero before they are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    public override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Masked;
}
