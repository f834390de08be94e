namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>Weights and biases of layers whose input loses units, fitted to their outputs before.</summary>
internal static class Refit
{
    /// <summary>
    /// Fits each layer alone to what it takes in the model before. Where it has a bias, the covariance stands for XᵀX and the bias takes up
    /// the means: what was constant of the units that go.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="removed">Columns that a layer loses, by its weight's place.</param>
    /// <param name="observed">What layers take.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>Weights and biases, not cut, by place.</returns>
    public static async Task<Dictionary<int, float[]>> LocalAsync(
        PrunableModel model,
        IReadOnlyDictionary<int, HashSet<int>> removed,
        Observed observed,
        CancellationToken cancellation
    )
    {
        var values = new Dictionary<int, float[]>();
        foreach (var layer in model.Layers.Where(l => removed.ContainsKey(l.Tensor)))
        {
            if (observed.Input(layer) is not { } seen)
                continue;
            var centred = layer.Bias is not null;
            var moments = seen.Matrix(centred);
            var weights = layer.Matrix(await model.ReadAsync(layer.Tensor, cancellation));
            int[] kept = [.. Enumerable.Range(0, layer.Columns).Where(c => !removed[layer.Tensor].Contains(c))];
            var damping = observed.Damping(moments, seen.Count);
            if (LeastSquares.Refit(weights, moments, layer.Rows, kept, damping, cancellation) is not { } fitted || !layer.Holds(fitted))
                continue;
            values[layer.Tensor] = layer.Stored(fitted);
            if (layer.Bias is not { } place)
                continue;
            var bias = await model.ReadAsync(place, cancellation);
            for (var r = 0; r < layer.Rows; r++)
            {
                double shift = 0;
                for (var k = 0; k < layer.Columns; k++)
                    shift += (weights[r * layer.Columns + k] - fitted[r * layer.Columns + k]) * seen.Sums[k] / seen.Count;
                bias[r] += (float)shift;
            }
            values[place] = bias;
        }
        return values;
    }
}
