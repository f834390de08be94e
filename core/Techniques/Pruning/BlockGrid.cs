using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>A layer in blocks; those at the edges are smaller.</summary>
/// <param name="Shape">The layer's view. No block crosses a slice of it (<see cref="WeightTile.SliceRows"/>).</param>
/// <param name="Rows">Rows of a block.</param>
/// <param name="Columns">Columns of a block.</param>
internal sealed record BlockGrid(LayerShape Shape, int Rows, int Columns)
{
    private readonly long slice = WeightTile.SliceRows(Shape);
    private readonly long across = (Shape.Axis + Columns - 1) / Columns;
    private readonly long down = (WeightTile.SliceRows(Shape) + Rows - 1) / Rows;

    /// <summary>Blocks in all.</summary>
    public long Count => across * down * (Shape.Rows / slice);

    /// <summary>The block of an element.</summary>
    public long Of(long row, long column) => (row / slice * down + row % slice / Rows) * across + column / Columns;

    /// <summary>Weights of a block.</summary>
    public long Size(long block) =>
        Math.Min(Columns, Shape.Axis - block % across * Columns) * Math.Min(Rows, slice - block / across % down * Rows);
}
