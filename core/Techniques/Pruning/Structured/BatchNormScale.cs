namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Channels that a batch normalization scales least go (Liu et al. 2017, "Learning Efficient Convolutional Networks through Network
/// Slimming", section 3): by |γ|, also where the normalization was folded into the layer in front. Groups without one are ranked by L2
/// norm.
/// </summary>
public sealed class BatchNormScale : Shrink
{
    /// <inheritdoc/>
    public override string Method => "bn";

    /// <inheritdoc/>
    public override string About => "Channels of the least batch normalization scale are removed (Liu et al. 2017, Network Slimming).";

    private protected override Task<UnitOrder> OrderAsync(PrunableGroup group, UnitFacts facts, int most, CancellationToken cancellation)
    {
        var scores = new double[group.Group.Units];
        var found = false;
        foreach (var axis in group.Group.Values)
        {
            if (!facts.Normalized.TryGetValue(axis.Value, out var known) || facts.Model.Facts.Groups.Whole(axis) != group.Group)
                continue;
            var mean = known.Deviation.Average(d => Math.Abs((double)d));
            for (var u = 0; u < scores.Length && mean > 0; u++)
                scores[u] += Math.Abs(known.Deviation[u]) / mean;
            found |= mean > 0;
        }
        return found ? Task.FromResult(UnitOrder.ByScore(scores)) : ByWeightsAsync(group, facts, cancellation);
    }
}
