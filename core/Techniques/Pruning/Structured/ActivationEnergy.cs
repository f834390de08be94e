namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Units go that add least energy to the outputs of the layers that take them, Σ E[x²]·‖w‖² over a unit's columns, on samples (as Wanda
/// weighs single weights: Sun et al. 2024, eq. 1; An et al. 2024, "Fluctuation-based Adaptive Structured Pruning for Large Language
/// Models", eq. 5, where x is centred: the layer's bias takes up the mean). Groups that no observed layer takes are ranked by L2 norm.
/// </summary>
public sealed class ActivationEnergy : Shrink
{
    /// <inheritdoc/>
    public override string Method => "activation";

    /// <inheritdoc/>
    public override string About => "Units that add least energy to the next layers' outputs are removed, calibrated (An et al. 2024).";

    private protected override bool Observes => true;

    private protected override async Task<UnitOrder> OrderAsync(
        PrunableGroup group,
        UnitFacts facts,
        int most,
        CancellationToken cancellation
    )
    {
        var scores = new double[group.Group.Units];
        var found = false;
        await foreach (var (layer, columns, moments, _, weights, energy) in facts.ConsumersAsync(group, int.MaxValue, cancellation))
        {
            for (var u = 0; u < scores.Length; u++)
                foreach (var c in columns[u])
                    for (var r = 0; r < layer.Rows; r++)
                        scores[u] +=
                            moments[c * layer.Columns + c] * weights[r * layer.Columns + c] * weights[r * layer.Columns + c] / energy;
            found = true;
        }
        return found ? UnitOrder.ByScore(scores) : await ByWeightsAsync(group, facts, cancellation);
    }
}
