using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Symbols packed plane by plane (<see cref="BitPacking.Planes"/>). Bytes of a narrow plane are looked up in a table of the symbols that
/// each holds; a plane of a byte a symbol is read as it is. A higher plane is multiplied by its place.
/// </summary>
/// <param name="shard">Store path of the shard.</param>
internal sealed class PackedIndices(string shard) : SymbolSource
{
    private const int Whole = 8;

    /// <summary>Bytes of the nodes and initializers beside the symbols, found by writing them.</summary>
    /// <param name="count">Symbols.</param>
    /// <param name="bits">Bits of each.</param>
    public static int NodeBytes(long count, int bits) =>
        BitPacking.Planes(bits).Sum(p => p.Width == Whole ? 75 : 120 + (count % (Whole / p.Width) == 0 ? 0 : 70))
        + (BitPacking.Planes(bits).Length - 1) * 75;

    /// <inheritdoc/>
    public override string Of(ConstantSubgraph graph, int bits, ShardRange codes, long count)
    {
        var offset = codes.Offset;
        string? sum = null;
        foreach (var (width, shift) in BitPacking.Planes(bits))
        {
            var plane = new ShardRange(offset, BitPacking.Bytes(count, width));
            offset += plane.Length;
            var symbols = graph.Cast(graph.Constant("_q", Form.Tensor(shard, plane, DataType.Uint8, plane.Length)), DataType.Int32);
            if (width < Whole)
            {
                symbols = graph.Reshape(graph.Cast(graph.Add("Gather", [Table(graph, width), symbols]), DataType.Int32), -1);
                if (plane.Length * (Whole / width) != count)
                    symbols = graph.Slice(symbols, 0, count);
            }
            if (shift > 0)
                symbols = graph.Add("Mul", [symbols, Number(graph, 1 << shift)]);
            sum = sum is null ? symbols : graph.Add("Add", [sum, symbols]);
        }
        return sum!;
    }

    /// <summary>Packs symbols.</summary>
    /// <param name="symbols">The symbols, below 2^bits.</param>
    /// <param name="bits">Bits of each: 1 to 12.</param>
    /// <param name="stream">Receives them.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    public static async Task WriteAsync(ushort[] symbols, int bits, Stream stream, CancellationToken cancellation)
    {
        const int Part = 1 << 18;
        var (plain, packed) = (new byte[Math.Min(Part, symbols.Length)], new byte[Math.Min(Part, symbols.Length)]);
        foreach (var (width, shift) in BitPacking.Planes(bits))
            for (var at = 0; at < symbols.Length; at += Part)
            {
                var count = Math.Min(Part, symbols.Length - at);
                for (var i = 0; i < count; i++)
                    plain[i] = (byte)(symbols[at + i] >> shift & (1 << width) - 1);
                BitPacking.Pack(plain.AsSpan(0, count), width, packed);
                await stream.WriteAsync(packed.AsMemory(0, (int)BitPacking.Bytes(count, width)), cancellation);
            }
    }

    private static string Number(ConstantSubgraph graph, int number) =>
        graph.Edit.Share(graph.Scope, "place", ModelEdit.Tensor(DataType.Int32, BitConverter.GetBytes(number), 1));

    private static string Table(ConstantSubgraph graph, int width)
    {
        var (per, mask) = (Whole / width, (1 << width) - 1);
        var symbols = new byte[256 * per];
        for (var i = 0; i < symbols.Length; i++)
            symbols[i] = (byte)(i / per >> (i % per * width) & mask);
        return graph.Edit.Share(graph.Scope, $"bits{width}_table", ModelEdit.Tensor(DataType.Uint8, symbols, 256, per));
    }
}
