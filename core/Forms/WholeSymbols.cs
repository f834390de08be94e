using System.Buffers.Binary;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>Symbols of 8 or 16 bits, each an element of its own: int8 and int16 when symmetric, else uint8.</summary>
internal static class WholeSymbols
{
    /// <summary>Adds the nodes that make levels of symbols, as floats.</summary>
    public static string Levels(ConstantSubgraph graph, AffineGrid grid, string shard, ShardRange range, long[] dims) =>
        graph.Cast(graph.Constant("_q", Form.Tensor(shard, range, Type(grid), dims)), DataType.Float);

    /// <summary>Reads symbols: the reference, counted from the lowest level.</summary>
    public static int[] Read(ReadOnlySpan<byte> bytes, AffineGrid grid, long count)
    {
        var symbols = new int[count];
        for (var i = 0; i < count; i++)
            symbols[i] = Type(grid) switch
            {
                DataType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(bytes[(2 * i)..]) + (1 << 15),
                DataType.Int8 => (sbyte)bytes[i] + (1 << 7),
                _ => bytes[i],
            };
        return symbols;
    }

    private static DataType Type(AffineGrid grid)
    {
        if (grid.Bits == 16)
            return DataType.Int16;
        return grid.Symmetric ? DataType.Int8 : DataType.Uint8;
    }
}
