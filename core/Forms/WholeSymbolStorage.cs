using Serverless.Core.Grids;
using Serverless.Core.Numerics;
using Serverless.Core.Storage;

namespace Serverless.Core.Forms;

/// <summary>
/// Stores symbols of 3, 5, 6 or 7 bits whole in bytes where these take fewer bytes at their entropy than planes of bits do: planes of one
/// symbol depend on each other, which coding them apart does not see.
/// </summary>
public static class WholeSymbolStorage
{
    // Estimates of entropies and what a stream takes differ by less.
    private const double Gain = 0.97;
    private const long Most = 32 << 20;

    /// <summary>Memory that storing takes.</summary>
    /// <param name="elements">Weights of the layer.</param>
    public static long WorkingBytes(long elements) => 6 * Math.Min(elements, Most);

    /// <summary>Writes a layer as it is or with whole symbols.</summary>
    /// <param name="shard">Holds the layer as a technique encoded it, and nothing else.</param>
    /// <param name="layer">That encoding.</param>
    /// <param name="output">Receives the layer, from its start.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> WriteAsync(
        ArtifactReader shard,
        EncodedLayer layer,
        Stream output,
        CancellationToken cancellation
    )
    {
        if (layer.Form == FormName.Folded && layer.Grid is AffineGrid { Bits: 3 or 5 or 6 or 7 } grid)
        {
            var count = layer.Shape.Rows * grid.PaddedAxis;
            var planes = new byte[count <= Most ? layer.Codes.Length : 0];
            await shard.ReadAsync(layer.Codes.Offset, planes, cancellation);
            if (count <= Most && Whole(planes, grid.Bits, count) is { } whole)
            {
                await output.WriteAsync(whole, cancellation);
                var codes = new ShardRange(0, whole.Length);
                var moved = await MovedGrid.WriteAsync(shard, grid, whole.Length, output, cancellation);
                return layer with { Codes = codes, Grid = moved, WholeSymbols = true };
            }
        }
        await shard.CopyToAsync(0, shard.Artifact.Length, output, cancellation);
        return layer;
    }

    // Null where planes are no larger.
    private static byte[]? Whole(byte[] planes, int bits, long count)
    {
        var symbols = PackedSymbols.Read(planes, bits, count);
        var per = 8 / bits;
        var whole = new byte[PackedSymbols.Bytes(count, bits)];
        for (var i = 0; i < symbols.Length; i++)
            whole[i / per] |= (byte)(symbols[i] << (i % per * bits));
        double apart = 0;
        for (var (offset, p) = (0, 0); p < BitPacking.Planes(bits).Length; p++)
        {
            var bytes = (int)BitPacking.Bytes(count, BitPacking.Planes(bits)[p].Width);
            apart += Math.Min(bytes, FrequencyTable.Entropy(FrequencyTable.Count(planes.AsSpan(offset, bytes))) / 8);
            offset += bytes;
        }
        var counts = FrequencyTable.Count(whole);
        // Such a layer is coded in any case: it alone saves more than the decoder takes.
        return FrequencyTable.Entropy(counts) / 8 < Gain * apart && EntropyCoding.Alone(counts) < planes.Length ? whole : null;
    }
}
