using System.Buffers.Binary;
using Serverless.Core.Grids;
using Serverless.Core.Numerics;
using Serverless.Core.Storage;

namespace Serverless.Core.Forms;

/// <summary>The symbols of an encoded layer as they lie in its shard, read in parts.</summary>
internal sealed class StoredSymbols
{
    private const int Part = 1 << 18;
    private readonly ArtifactReader shard;
    private readonly ShardRange codes;
    private readonly IReadOnlyList<(int Width, int Shift)> planes;
    private readonly double zero;

    private StoredSymbols(ArtifactReader shard, ShardRange codes, long count, IReadOnlyList<(int Width, int Shift)> planes, double zero) =>
        (this.shard, this.codes, Count, this.planes, this.zero) = (shard, codes, count, planes, zero);

    /// <summary>How many symbols there are.</summary>
    public long Count { get; }

    /// <summary>Bits of a symbol.</summary>
    public int Bits => planes.Sum(p => p.Width);

    // The zero point of each group, where there are such.
    private double[] Zeros { get; init; } = [];

    private int Group { get; init; } = 1;

    // Symbols 1 and 3 beside the 2 that means zero.
    private bool MayBeSigns { get; init; }

    // What turns a symbol as it is read into one as it is written.
    private ulong Flip { get; init; }

    /// <summary>The symbols of a layer; null where its form stores none one by one, or none of them means zero.</summary>
    /// <param name="shard">The shard.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="cancellation">Cancels the reading of zero points.</param>
    public static async Task<StoredSymbols?> OfAsync(ArtifactReader shard, EncodedLayer layer, CancellationToken cancellation)
    {
        if (layer.Grid is FloatGrid { BitsPerWeight: var width })
            return layer.Rank > 0 ? null : new StoredSymbols(shard, layer.Codes, layer.Shape.Elements, [(width, 0)], 0);
        if (FormName.IsInteger(layer.Form))
            return new StoredSymbols(shard, layer.Codes, layer.Shape.Elements, [(8, 0)], 0);
        if (layer.Grid is CodebookGrid book)
            return book.HasZero ? new StoredSymbols(shard, layer.Codes, layer.Shape.Elements, BitPacking.Planes(book.Bits), 0) : null;
        if (layer.Form is not (FormName.Folded or FormName.MatMulNBits) || layer.Grid is SumGrid or ScaledGrid { Inner: SumGrid })
            return null;
        var grid = AffineNodes.TermsOf(layer).Grid;
        var kernel = layer.Form == FormName.MatMulNBits;
        // A kernel's zero points lie packed row by row.
        if (grid.Bits == 1 || kernel && grid.Zeros is not null)
            return null;
        var signed = grid is { Symmetric: true, Bits: >= 8 };
        var zeros = Array.Empty<double>();
        if (grid.Zeros is { } stored)
        {
            var bytes = new byte[stored.Range.Length];
            await shard.ReadAsync(stored.Range.Offset, bytes, cancellation);
            zeros = (stored with { Range = new ShardRange(0, bytes.Length) }).Read(bytes);
        }
        var zero = signed && !kernel ? 0 : grid.Middle;
        return new StoredSymbols(shard, layer.Codes, layer.Shape.Rows * grid.PaddedAxis, BitPacking.Planes(grid.Bits), zero)
        {
            Zeros = zeros,
            Group = grid.Group,
            MayBeSigns = grid is { Bits: 2, Symmetric: true, Zeros: null },
            Flip = signed && kernel ? (ulong)grid.Middle : 0,
        };
    }

    /// <summary>Marks the symbols that do not mean zero.</summary>
    /// <returns>
    /// A bit a symbol, the first in the lowest; whether the others mean −1 or +1, so that a bit each tells them; and their entropy in bits
    /// in all, that of their own bits where these are more than 8.
    /// </returns>
    public async Task<(byte[] Present, bool Signs, double Entropy)> MarkAsync(CancellationToken cancellation)
    {
        var (counts, marked) = (new long[256], 0L);
        var signs = MayBeSigns;
        var present = new byte[BitPacking.Bytes(Count, 1)];
        var symbols = new ulong[Math.Min(Part, Count)];
        for (long at = 0; at < Count; at += Part)
        {
            var count = (int)Math.Min(Part, Count - at);
            await ReadAsync(at, symbols.AsMemory(0, count), planes, cancellation);
            for (var i = 0; i < count; i++)
                if (symbols[i] != (Zeros.Length == 0 ? zero : zero + Zeros[(at + i) / Group]))
                {
                    present[(at + i) >> 3] |= (byte)(1 << (int)((at + i) & 7));
                    signs &= (symbols[i] & 1) != 0;
                    counts[(byte)symbols[i]]++;
                    marked++;
                }
        }
        return (present, signs, Bits > 8 ? (double)marked * Bits : FrequencyTable.Entropy(counts));
    }

    /// <summary>Writes a unit of zeros and the symbols of some units, plane by plane.</summary>
    /// <param name="units">A bit a unit.</param>
    /// <param name="unit">Symbols of a unit.</param>
    /// <param name="signs">Whether their signs alone are written.</param>
    /// <param name="output">Receives them.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task WriteAsync(byte[] units, int unit, bool signs, Stream output, CancellationToken cancellation)
    {
        var symbols = new ulong[Math.Min(Part, Count)];
        var kept = new ulong[symbols.Length + 8 + unit];
        var packed = new byte[kept.Length * 8];
        foreach (var plane in planes)
        {
            var (held, (width, shift)) = (unit, signs ? (1, 1) : plane);
            kept.AsSpan(0, unit).Fill(((ulong)zero ^ Flip) >> shift);
            for (long at = 0; at < Count; at += Part)
            {
                var count = (int)Math.Min(Part, Count - at);
                await ReadAsync(at, symbols.AsMemory(0, count), [plane], cancellation);
                for (var i = 0; i < count; i++)
                    if ((at + i) / unit is var u && (units[u >> 3] >> (int)(u & 7) & 1) != 0)
                        kept[held++] = (symbols[i] ^ Flip) >> shift;
                // What is left of eight begins the next part.
                var whole = at + count == Count ? held : held / 8 * 8;
                await output.WriteAsync(packed.AsMemory(0, Pack(kept.AsSpan(0, whole), width, packed)), cancellation);
                kept.AsSpan(whole, held - whole).CopyTo(kept);
                held -= whole;
            }
        }
    }

    private async Task ReadAsync(
        long first,
        Memory<ulong> symbols,
        IReadOnlyList<(int Width, int Shift)> wanted,
        CancellationToken cancellation
    )
    {
        symbols.Span.Clear();
        var offset = codes.Offset;
        foreach (var plane in planes)
        {
            var bytes = new byte[BitPacking.Bytes(symbols.Length, plane.Width)];
            if (wanted.Contains(plane))
            {
                await shard.ReadAsync(offset + first * plane.Width / 8, bytes, cancellation);
                Unpack(bytes, plane, symbols.Span);
            }
            offset += BitPacking.Bytes(Count, plane.Width);
        }
    }

    private static void Unpack(ReadOnlySpan<byte> bytes, (int Width, int Shift) plane, Span<ulong> symbols)
    {
        var (width, shift) = plane;
        for (var i = 0; i < symbols.Length; i++)
            symbols[i] |= width switch
            {
                64 => BinaryPrimitives.ReadUInt64LittleEndian(bytes[(8 * i)..]),
                32 => BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 * i)..]),
                16 => BinaryPrimitives.ReadUInt16LittleEndian(bytes[(2 * i)..]),
                _ => (ulong)(bytes[i * width / 8] >> (i * width % 8) & ((1 << width) - 1)) << shift,
            };
    }

    private static int Pack(ReadOnlySpan<ulong> symbols, int width, Span<byte> packed)
    {
        var bytes = (int)BitPacking.Bytes(symbols.Length, width);
        packed[..bytes].Clear();
        for (var i = 0; i < symbols.Length; i++)
            if (width > 8)
                for (var b = 0; b < width / 8; b++)
                    packed[i * width / 8 + b] = (byte)(symbols[i] >> (8 * b));
            else
                packed[i * width / 8] |= (byte)((symbols[i] & (ulong)((1 << width) - 1)) << (i * width % 8));
        return bytes;
    }
}
