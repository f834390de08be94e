using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// The optimal brain surgeon on groups (Kurtic et al. 2023, "ZipLM"; <see cref="GroupSurgeon"/>): the unit goes that costs the outputs of
/// the layers that take it least once the others have made up for it, one after another, on samples. Groups that no observed layer takes
/// are ranked by L2 norm.
/// </summary>
public sealed class GroupObs : Shrink
{
    private const int MostColumns = 8192;

    /// <inheritdoc/>
    public override string Method => "obs";

    /// <inheritdoc/>
    public override string About =>
        "Units are removed one by one at the least loss, the others making up for each (Kurtic et al. 2023, ZipLM).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    private protected override bool Observes => true;

    private protected override async Task<UnitOrder> OrderAsync(
        PrunableGroup group,
        UnitFacts facts,
        int most,
        CancellationToken cancellation
    )
    {
        var layers = new List<SurgeonLayer>();
        await foreach (var (layer, columns, moments, count, weights, energy) in facts.ConsumersAsync(group, MostColumns, cancellation))
        {
            var n = layer.Columns;
            var damping = facts.Observed!.Damping(moments, count);
            if (LeastSquares.Scale(moments, n) is not { } scales)
                continue;
            for (var i = 0; i < n; i++)
                moments[i * n + i] += damping;
            if (SymmetricInverse.Of(moments, n, cancellation) is not { } inverse)
                continue;
            var columnsFirst = new double[weights.Length];
            for (var r = 0; r < layer.Rows; r++)
            for (var c = 0; c < n; c++)
                columnsFirst[c * layer.Rows + r] = weights[r * n + c] * scales[c];
            layers.Add(new SurgeonLayer(columnsFirst, inverse, layer.Rows, energy, columns));
        }
        return layers.Count > 0
            ? GroupSurgeon.Order(layers, group.Group.Units, most, cancellation)
            : await ByWeightsAsync(group, facts, cancellation);
    }
}
