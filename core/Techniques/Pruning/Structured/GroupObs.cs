using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// The optimal brain surgeon on groups (Kurtic et al. 2023, "ZipLM"; <see cref="GroupSurgeon"/>): the unit goes that costs the outputs of the
/// layers that take it least once the others have made up for it, one after another, on samples. Groups that no observed layer takes are
/// ranked by L2 norm.
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
        foreach (var consumer in group.Consumers.Where(c => c.Layer.Columns <= MostColumns))
        {
            if (facts.Observed?.Input(consumer.Layer) is not { } seen)
                continue;
            var (layer, n) = (consumer.Layer, consumer.Layer.Columns);
            var moments = seen.Matrix(layer.Bias is not null);
            var weights = layer.Matrix(await facts.Model.ReadAsync(layer.Tensor, cancellation));
            var energy = LeastSquares.Energy(weights, moments, layer.Rows);
            var damping = facts.Observed!.Damping(moments, seen.Count);
            if (!(energy > 0) || LeastSquares.Scale(moments, n) is not { } scales)
                continue;
            for (var i = 0; i < n; i++)
                moments[i * n + i] += damping;
            if (SymmetricInverse.Of(moments, n, cancellation) is not { } inverse)
                continue;
            var columnsFirst = new double[weights.Length];
            for (var r = 0; r < layer.Rows; r++)
            for (var c = 0; c < n; c++)
                columnsFirst[c * layer.Rows + r] = weights[r * n + c] * scales[c];
            layers.Add(new SurgeonLayer(columnsFirst, inverse, layer.Rows, energy, consumer.Columns));
        }
        return layers.Count > 0
            ? GroupSurgeon.Order(layers, group.Group.Units, most, cancellation)
            : await ByWeightsAsync(group, facts, cancellation);
    }
}
