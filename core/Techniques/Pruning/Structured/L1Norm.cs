namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Units whose weights have the least sum of magnitudes go (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1), over
/// all weights that make or take the unit.
/// </summary>
public sealed class L1Norm : Shrink
{
    /// <inheritdoc/>
    public override string Method => "l1";

    /// <inheritdoc/>
    public override string About => "Units whose weights have the least L1 norm are removed (Li et al. 2017).";

    private protected override async Task<UnitOrder> OrderAsync(
        PrunableGroup group,
        UnitFacts facts,
        int most,
        CancellationToken cancellation
    ) => UnitOrder.ByScore(await UnitNorms.OfAsync(group, facts.Model, w => Math.Abs(w), cancellation));
}
