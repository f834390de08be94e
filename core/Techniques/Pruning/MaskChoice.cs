using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Chooses the weights of least importance, tile by tile.</summary>
internal static class MaskChoice
{
    /// <summary>Memory of a choice: two tiles of a row each, the mask, and the scores of blocks.</summary>
    public static long WorkingBytes(LayerShape shape, SparsityPattern pattern) =>
        WeightTile.Rows(shape) * shape.Axis * 8
        + WeightMask.Bytes(shape)
        + (pattern.IsBlocks ? new BlockGrid(shape, pattern.Rows, pattern.Columns).Count * 4 : 0);

    /// <summary>Of each row the same number of weights.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="importance">How much weights matter.</param>
    /// <param name="sparsity">Share of a row, rounded down to weights.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<WeightMask> RowsAsync(
        WeightReader weight,
        LayerShape shape,
        Importance importance,
        double sparsity,
        CancellationToken cancellation
    )
    {
        var mask = new WeightMask(shape);
        var (row, sorted) = (new double[shape.Axis], new double[shape.Axis]);
        await foreach (var tile in WeightTile.EachAsync(weight, shape, 1, cancellation))
        {
            await importance.ScoreAsync(tile, cancellation);
            for (var r = 0; r < tile.Rows; r++)
            {
                for (var k = 0; k < row.Length; k++)
                    row[k] = tile.Values[k * tile.Rows + r];
                row.CopyTo(sorted, 0);
                var (limit, ties) = LeastScores.Of(sorted, (int)(sparsity * row.Length));
                for (var k = 0; k < row.Length; k++)
                    if (row[k] < limit || row[k] == limit && ties-- > 0)
                        mask.Prune(tile.First + r, k);
            }
        }
        return mask;
    }

    /// <summary>All but N of each M consecutive weights of a row.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="importance">How much weights matter.</param>
    /// <param name="pattern">N:M.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<WeightMask> GroupsAsync(
        WeightReader weight,
        LayerShape shape,
        Importance importance,
        SparsityPattern pattern,
        CancellationToken cancellation
    )
    {
        var mask = new WeightMask(shape);
        await foreach (var tile in WeightTile.EachAsync(weight, shape, 1, cancellation))
        {
            await importance.ScoreAsync(tile, cancellation);
            for (var first = 0; first < shape.Axis; first += pattern.Of)
                Groups(tile, first, (int)Math.Min(pattern.Of, shape.Axis - first), pattern, mask);
        }
        return mask;
    }

    private static void Groups(RowTile tile, int first, int count, SparsityPattern pattern, WeightMask mask)
    {
        Span<double> scores = stackalloc double[count];
        for (var r = 0; r < tile.Rows; r++)
        {
            for (var k = 0; k < count; k++)
                scores[k] = tile.Values[(first + k) * tile.Rows + r];
            var pruned = LeastScores.Bits(scores, count - pattern.KeptOf(count));
            for (var k = 0; k < count; k++)
                if ((pruned >> k & 1) != 0)
                    mask.Prune(tile.First + r, first + k);
        }
    }
}
