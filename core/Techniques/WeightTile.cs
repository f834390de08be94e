using Serverless.Core.Model;

namespace Serverless.Core.Techniques;

/// <summary>Reads some rows of a weight turned around: element (column, row) at <c>column · rows + row</c>.</summary>
internal static class WeightTile
{
    private const int Chunk = 1 << 20;

    /// <summary>Rows of a tile so that it stays near 32 MB in double.</summary>
    public static int Rows(LayerShape shape) => (int)Math.Clamp((4 << 20) / Math.Max(1, shape.Axis), 16, Math.Max(16, shape.Rows));

    /// <summary>Reads rows.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view: one of <see cref="LayerShape.Outer"/> and <see cref="LayerShape.Inner"/> is 1.</param>
    /// <param name="first">The first row.</param>
    /// <param name="rows">How many.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<double[]> ReadAsync(
        WeightReader weight,
        LayerShape shape,
        long first,
        int rows,
        CancellationToken cancellation
    )
    {
        var axis = (int)shape.Axis;
        var tile = new double[(long)axis * rows];
        if (shape.Inner == 1)
        {
            var row = new float[axis];
            for (var r = 0; r < rows; r++)
            {
                await weight.ReadAsync((first + r) * axis, row, cancellation);
                for (var k = 0; k < axis; k++)
                    tile[k * rows + r] = row[k];
            }
        }
        else
        {
            // Whole rows of the stored matrix when all are wanted, so that reads are long.
            var whole = rows == shape.Inner;
            var step = whole ? Math.Max(1, Chunk / rows) : 1;
            var slab = new float[Math.Min(step, axis) * rows];
            for (var k = 0; k < axis; k += step)
            {
                var part = slab.AsMemory(0, Math.Min(step, axis - k) * rows);
                await weight.ReadAsync(k * shape.Inner + first, part, cancellation);
                for (var i = 0; i < part.Length; i++)
                    tile[k * rows + i] = part.Span[i];
            }
        }
        CheckFinite(tile);
        return tile;
    }

    private static void CheckFinite(double[] tile)
    {
        foreach (var v in tile)
            if (!double.IsFinite(v))
                throw new LayerRefusedException("has NaN or infinite weights");
    }
}
