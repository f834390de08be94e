namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Units whose weights have the least sum of squares go (He et al. 2018, "Soft Filter Pruning for Accelerating Deep Convolutional Neural
/// Networks", section 3.2), over all weights that make or take the unit.
/// </summary>
public sealed class L2Norm : Shrink
{
    /// <inheritdoc/>
    public override string Method => "l2";

    /// <inheritdoc/>
    public override string About => "Units whose weights have the least L2 norm are removed (He et al. 2018).";

    private protected override Task<UnitOrder> OrderAsync(PrunableGroup group, UnitFacts facts, int most, CancellationToken cancellation) =>
        ByWeightsAsync(group, facts, cancellation);
}
