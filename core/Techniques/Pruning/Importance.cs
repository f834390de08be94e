namespace Serverless.Core.Techniques.Pruning;

/// <summary>
/// A criterion of pruning: how much each weight of a layer matters, as what the loss or the outputs' squared error would grow by without
/// it. Scores of a block add up.
/// </summary>
internal abstract class Importance
{
    /// <summary>Puts scores in the place of weights.</summary>
    /// <param name="tile">Rows of the layer; overwritten with their scores, not negative.</param>
    /// <param name="cancellation">Cancels the reading of what else the criterion needs of these rows.</param>
    public abstract ValueTask ScoreAsync(RowTile tile, CancellationToken cancellation);
}

/// <summary>w²: the order of |w|, and of the L2 norms of blocks.</summary>
internal sealed class SquaredMagnitude : Importance
{
    /// <inheritdoc/>
    public override ValueTask ScoreAsync(RowTile tile, CancellationToken cancellation)
    {
        System.Numerics.Tensors.TensorPrimitives.Multiply<double>(tile.Values, tile.Values, tile.Values);
        return ValueTask.CompletedTask;
    }
}

/// <summary>w²·‖x‖²: the squares of Sun et al. 2024, eq. 1.</summary>
/// <param name="squares">‖x‖² of each input, for each group of channels.</param>
/// <param name="rows">Rows of the layer.</param>
internal sealed class InputMagnitude(double[][] squares, long rows) : Importance
{
    /// <inheritdoc/>
    public override ValueTask ScoreAsync(RowTile tile, CancellationToken cancellation)
    {
        var perGroup = rows / squares.Length;
        double[][] norms = [.. Enumerable.Range(0, tile.Rows).Select(r => squares[(tile.First + r) / perGroup])];
        for (var k = 0; k < squares[0].Length; k++)
        {
            var column = tile.Values.AsSpan(k * tile.Rows, tile.Rows);
            for (var r = 0; r < column.Length; r++)
                column[r] *= column[r] * norms[r][k];
        }
        return ValueTask.CompletedTask;
    }
}
