using Serverless.Core.Grids;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>
/// Symbols of any width: of 8 and 16 bits whole (<see cref="WholeSymbols"/>), of fewer packed (<see cref="PackedSymbols"/>).
/// </summary>
internal static class CodeSymbols
{
    private const int WholeFrom = 8;

    /// <summary>Adds the nodes that make levels of symbols, as floats.</summary>
    /// <param name="graph">Receives them.</param>
    /// <param name="grid">The grid.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <param name="range">The symbols in the shard.</param>
    /// <param name="count">How many.</param>
    /// <param name="dims">Dimensions of the levels.</param>
    /// <param name="whole">Whether symbols of fewer bits lie whole in bytes.</param>
    public static string Levels(
        ConstantSubgraph graph,
        AffineGrid grid,
        string shard,
        ShardRange range,
        long count,
        long[] dims,
        bool whole = false
    ) =>
        grid.Bits >= WholeFrom
            ? WholeSymbols.Levels(graph, grid, shard, range, dims)
            : PackedSymbols.Levels(graph, grid, shard, range, whole, count, dims);

    /// <summary>Reads symbols: the reference, counted from the lowest level.</summary>
    public static int[] Read(ReadOnlySpan<byte> bytes, AffineGrid grid, long count, bool whole = false) =>
        grid.Bits >= WholeFrom ? WholeSymbols.Read(bytes, grid, count) : PackedSymbols.Read(bytes, grid.Bits, count, whole);
}
