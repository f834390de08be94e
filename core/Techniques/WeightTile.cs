using System.Runtime.CompilerServices;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques;

/// <summary>Reads some rows of a weight turned around: element (column, row) at <c>column · rows + row</c>.</summary>
internal static class WeightTile
{
    private const int Chunk = 1 << 20;

    /// <summary>Rows of a tile so that it stays near 32 MB in double.</summary>
    public static int Rows(LayerShape shape) => (int)Math.Clamp((4 << 20) / Math.Max(1, shape.Axis), 16, Math.Max(16, shape.Rows));

    /// <summary>
    /// Rows that lie side by side in the weight: all where a row's elements follow one another, else those of one slice of
    /// <see cref="LayerShape.Outer"/>.
    /// </summary>
    public static long SliceRows(LayerShape shape) => shape.Inner == 1 ? shape.Rows : shape.Inner;

    /// <summary>Places of an element in the stored weight.</summary>
    /// <param name="shape">The view.</param>
    /// <param name="row">The row.</param>
    /// <param name="column">Its place in the row.</param>
    public static long At(LayerShape shape, long row, long column) =>
        (row / shape.Inner * shape.Axis + column) * shape.Inner + row % shape.Inner;

    /// <summary>Reads a weight tile by tile, none of which crosses a slice.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="multiple">Rows of a tile are a multiple of this, but for the last of a slice.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async IAsyncEnumerable<RowTile> EachAsync(
        WeightReader weight,
        LayerShape shape,
        int multiple,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        var slice = SliceRows(shape);
        var most = Math.Max(multiple, Rows(shape) / multiple * multiple);
        for (long start = 0; start < shape.Rows; start += slice)
        for (long first = 0; first < slice; first += most)
        {
            var rows = (int)Math.Min(most, slice - first);
            yield return new RowTile(start + first, rows, await ReadAsync(weight, shape, start + first, rows, cancellation));
        }
    }

    /// <summary>Reads rows.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="first">The first row.</param>
    /// <param name="rows">How many, of one slice (<see cref="SliceRows"/>).</param>
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
                await weight.ReadAsync(At(shape, first, k), part, cancellation);
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

/// <summary>Some rows of a weight.</summary>
/// <param name="First">The first row.</param>
/// <param name="Rows">How many.</param>
/// <param name="Values">Element (column, row) at <c>column · rows + row</c>.</param>
internal sealed record RowTile(long First, int Rows, double[] Values);
