using System.Runtime.CompilerServices;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What importances of units are told by.</summary>
/// <param name="Model">The model.</param>
/// <param name="Observed">What its layers take; null without samples.</param>
/// <param name="Normalized">Distributions of values that a batch normalization made, by value.</param>
internal sealed record UnitFacts(PrunableModel Model, Observed? Observed, IReadOnlyDictionary<string, ChannelDistribution> Normalized)
{
    /// <summary>The layers that take a group's units, of those that were observed and put out more than zero.</summary>
    /// <param name="group">The group.</param>
    /// <param name="mostColumns">Layers of more columns are left out.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public async IAsyncEnumerable<ObservedConsumer> ConsumersAsync(
        PrunableGroup group,
        int mostColumns,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        foreach (var (layer, columns) in group.Consumers.Where(c => c.Layer.Columns <= mostColumns))
        {
            if (Observed?.Input(layer) is not { } seen)
                continue;
            var moments = seen.Matrix(layer.Bias is not null);
            var weights = layer.Matrix(await Model.ReadAsync(layer.Tensor, cancellation));
            if (LeastSquares.Energy(weights, moments, layer.Rows) is > 0 and var energy)
                yield return new ObservedConsumer(layer, columns, moments, seen.Count, weights, energy);
        }
    }
}

/// <summary>A layer that takes the units of a group, with what it was seen to take.</summary>
/// <param name="Layer">The layer.</param>
/// <param name="Columns">Columns of each unit.</param>
/// <param name="Moments">XᵀX / n, the covariance where the layer has a bias.</param>
/// <param name="Count">n.</param>
/// <param name="Weights">W, rows × columns.</param>
/// <param name="Energy">tr(W·XᵀX·Wᵀ) / n.</param>
internal sealed record ObservedConsumer(
    LinearLayer Layer,
    IReadOnlyList<int[]> Columns,
    double[] Moments,
    long Count,
    double[] Weights,
    double Energy
);
