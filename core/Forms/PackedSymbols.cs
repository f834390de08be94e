using System.Runtime.InteropServices;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Symbols of fewer than 8 bits, packed plane by plane (<see cref="BitPacking.Planes"/>), or as many to a byte as are whole in it, which is
/// one plane. At load each byte is looked up in a table of the levels that it holds, which takes neither shifts nor integer division and
/// exists at every opset.
/// </summary>
internal static class PackedSymbols
{
    /// <summary>Adds the nodes that make levels of symbols (<see cref="AffineGrid.Level"/>), as floats.</summary>
    /// <param name="graph">Receives them.</param>
    /// <param name="grid">The grid.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <param name="range">The symbols in the shard.</param>
    /// <param name="whole">Whether each lies whole in a byte.</param>
    /// <param name="count">How many.</param>
    /// <param name="dims">Dimensions of the levels.</param>
    public static string Levels(
        ConstantSubgraph graph,
        AffineGrid grid,
        string shard,
        ShardRange range,
        bool whole,
        long count,
        long[] dims
    )
    {
        var offset = range.Offset;
        string? sum = null;
        foreach (var (width, shift) in Planes(grid.Bits, whole))
        {
            var plane = new ShardRange(offset, Bytes(count, width));
            offset += plane.Length;
            var codes = graph.Constant("_q", Form.Tensor(shard, plane, DataType.Uint8, plane.Length));
            var table = Table(graph, grid, width, shift);
            var levels = graph.Cast(graph.Add("Gather", [table, graph.Cast(codes, DataType.Int32)]), DataType.Float);
            if (plane.Length * (8 / width) != count)
                levels = graph.Slice(graph.Reshape(levels, -1), 0, count);
            levels = graph.Reshape(levels, dims);
            sum = sum is null ? levels : graph.Add("Add", [sum, levels]);
        }
        return sum!;
    }

    /// <summary>Reads symbols: the reference.</summary>
    public static int[] Read(ReadOnlySpan<byte> packed, int bits, long count, bool whole = false)
    {
        var symbols = new int[count];
        long start = 0;
        foreach (var (width, shift) in Planes(bits, whole))
        {
            var per = 8 / width;
            for (long i = 0; i < count; i++)
                symbols[i] |= (packed[(int)(start + i / per)] >> (int)(i % per * width) & ((1 << width) - 1)) << shift;
            start += Bytes(count, width);
        }
        return symbols;
    }

    /// <summary>Bytes of symbols of a width that lie whole in bytes.</summary>
    public static long Bytes(long count, int width) => (count + 8 / width - 1) / (8 / width);

    private static IReadOnlyList<(int Width, int Shift)> Planes(int bits, bool whole) => whole ? [(bits, 0)] : BitPacking.Planes(bits);

    // Row b of the table holds the levels of the bits of byte b: their place in the symbol, and for the lowest plane of
    // symmetric symbols the middle of the range taken off. One-bit symbols mean −1 and +1 when symmetric.
    private static string Table(ConstantSubgraph graph, AffineGrid grid, int width, int shift)
    {
        var (per, mask) = (8 / width, (1 << width) - 1);
        var (step, middle) = (1 << shift, grid.Symmetric && shift == 0 ? 1 << (grid.Bits - 1) : 0);
        if (grid.Symmetric && grid.Bits == 1)
            (step, middle) = (2, 1);
        // A byte an entry: seven tables of floats would be a twentieth of a small model.
        var rows = 1 << per * width;
        var values = new sbyte[rows * per];
        for (var b = 0; b < rows; b++)
        for (var k = 0; k < per; k++)
            values[b * per + k] = (sbyte)(step * (b >> (width * k) & mask) - middle);
        var tensor = ModelEdit.Tensor(DataType.Int8, MemoryMarshal.AsBytes<sbyte>(values), rows, per);
        return graph.Edit.Share(graph.Scope, $"bits{width}_table", tensor);
    }
}
