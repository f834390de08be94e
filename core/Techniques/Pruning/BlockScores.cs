namespace Serverless.Core.Techniques.Pruning;

/// <summary>How much the blocks of a layer matter: of each, the root of the mean score of its weights.</summary>
/// <param name="grid">The blocks.</param>
/// <param name="scores">One a block.</param>
internal sealed class BlockScores(BlockGrid grid, float[] scores)
{
    /// <summary>Adds up the scores of weights.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="grid">The blocks.</param>
    /// <param name="importance">How much weights matter.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<BlockScores> OfAsync(
        WeightReader weight,
        BlockGrid grid,
        Importance importance,
        CancellationToken cancellation
    )
    {
        var scores = new float[checked((int)grid.Count)];
        await foreach (var tile in WeightTile.EachAsync(weight, grid.Shape, grid.Rows, cancellation))
        {
            await importance.ScoreAsync(tile, cancellation);
            for (var r = 0; r < tile.Rows; r += grid.Rows)
            for (long k = 0; k < grid.Shape.Axis; k += grid.Columns)
                scores[grid.Of(tile.First + r, k)] = Of(tile, r, (int)k, grid);
        }
        return new BlockScores(grid, scores);
    }

    /// <summary>Upper 16 bits of a score as a float → weights of the blocks that have them.</summary>
    public IReadOnlyDictionary<int, long> Histogram()
    {
        var counts = new Dictionary<int, long>();
        for (var b = 0; b < scores.Length; b++)
        {
            var bucket = (int)(BitConverter.SingleToUInt32Bits(scores[b]) >> 16);
            counts[bucket] = counts.GetValueOrDefault(bucket) + grid.Size(b);
        }
        return counts;
    }

    /// <summary>The blocks below a score.</summary>
    public WeightMask Below(float threshold) => Marked(b => scores[b] < threshold);

    /// <summary>The least blocks, as many as have a number of weights at most.</summary>
    public WeightMask Least(long weights)
    {
        // The score that the weights reach, by its upper and then by its lower half.
        var (upper, below) = Reached(0, weights, b => Bits(b) >> 16);
        var (lower, within) = Reached(below, weights, b => Bits(b) >> 16 == upper ? Bits(b) & 0xffff : uint.MaxValue);
        var (limit, left) = (upper << 16 | lower, weights - within);
        return Marked(b => Bits(b) < limit || Bits(b) == limit && (left -= grid.Size(b)) >= 0);
    }

    private uint Bits(int block) => BitConverter.SingleToUInt32Bits(scores[block]);

    private (uint Bucket, long Below) Reached(long from, long weights, Func<int, uint> bucketOf)
    {
        var counts = new long[1 << 16];
        for (var b = 0; b < scores.Length; b++)
            if (bucketOf(b) is var bucket and < 1 << 16)
                counts[bucket] += grid.Size(b);
        uint at = 0;
        for (; at < counts.Length - 1 && from + counts[at] <= weights; at++)
            from += counts[at];
        return (at, from);
    }

    private WeightMask Marked(Func<int, bool> isPruned)
    {
        var mask = new WeightMask(grid.Shape);
        var pruned = new bool[scores.Length];
        for (var b = 0; b < scores.Length; b++)
            pruned[b] = isPruned(b);
        for (long row = 0; row < grid.Shape.Rows; row++)
        for (long k = 0; k < grid.Shape.Axis; k++)
            if (pruned[grid.Of(row, k)])
                mask.Prune(row, k);
        return mask;
    }

    private static float Of(RowTile tile, int row, int column, BlockGrid grid)
    {
        var (rows, last) = (Math.Min(grid.Rows, tile.Rows - row), Math.Min(column + grid.Columns, tile.Values.Length / tile.Rows));
        double sum = 0;
        for (var k = column; k < last; k++)
            sum += System.Numerics.Tensors.TensorPrimitives.Sum<double>(tile.Values.AsSpan(k * tile.Rows + row, rows));
        return (float)Math.Sqrt(sum / ((double)rows * (last - column)));
    }
}
