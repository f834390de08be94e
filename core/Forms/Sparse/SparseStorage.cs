using Serverless.Core.Grids;
using Serverless.Core.Numerics;
using Serverless.Core.Storage;

namespace Serverless.Core.Forms;

/// <summary>Stores a pruned layer without its zeros, where that takes fewer bytes: the better of a bitmap and gaps.</summary>
public static class SparseStorage
{
    /// <summary>Memory that storing takes.</summary>
    /// <param name="elements">Weights of the layer.</param>
    public static long WorkingBytes(long elements) => elements / 4 + (32 << 20);

    /// <summary>Writes a layer in its best form.</summary>
    /// <param name="shard">Holds the layer as a technique encoded it, and nothing else.</param>
    /// <param name="layer">That encoding.</param>
    /// <param name="nodes">Bytes of its nodes.</param>
    /// <param name="store">What forms are chosen by: symbols that a kernel reads are left out for <see cref="Store.Small"/> alone.</param>
    /// <param name="opset">Operator set that the nodes have to be from.</param>
    /// <param name="coded">Whether codes are coded at their entropy where that is smaller.</param>
    /// <param name="output">Receives the layer, from its start.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> WriteAsync(
        ArtifactReader shard,
        EncodedLayer layer,
        long nodes,
        Store store,
        long opset,
        bool coded,
        Stream output,
        CancellationToken cancellation
    )
    {
        if (opset < SparseForm.Oldest)
            return await DenseAsync(
                $"operator set {opset} has no CumSum, which finds the places of weights; convert the model to 11 or later"
            );
        var isInteger = FormName.IsInteger(layer.Form);
        var kernel = !isInteger && layer.Form is not (FormName.Dense or FormName.Cast or FormName.Folded or FormName.Codebook);
        if (kernel && store != Store.Small)
            return await DenseAsync(
                layer.Form == FormName.MatMulNBits
                    ? "its kernel reads all codes; 'store: small' leaves zeros out"
                    : "its kernel reads all codes"
            );
        if (SparseForm.TakesTooMuch(layer.Shape.Elements, store))
            return await DenseAsync(
                $"without zeros, loading it takes {layer.Shape.Elements * SparseForm.BytesWhileLoading >> 20:N0} MB for a moment; 'store: small' leaves them out"
            );
        if (await StoredSymbols.OfAsync(shard, layer, cancellation) is not { } symbols)
            return await DenseAsync("its codes have no zero of their own, or a kernel reads them");
        var (present, signs, entropy) = await symbols.MarkAsync(cancellation);
        var best = SparseLayout.Best(present, symbols.Count, symbols.Bits, signs ? 1 : symbols.Bits, coded ? entropy : null);
        // Units hold zeros too, which no sign means.
        signs &= best.Unit == 1;
        var bits = signs ? 1 : symbols.Bits;
        var dense = layer.Codes.Length + nodes;
        if (best.Bytes >= dense)
            return await DenseAsync($"without zeros it would take {best.Bytes:N0} bytes instead of {dense:N0}");
        return await SparseAsync(symbols, present, best);

        async Task<EncodedLayer> DenseAsync(string why)
        {
            await shard.CopyToAsync(0, shard.Artifact.Length, output, cancellation);
            var zeros = layer.Nonzero < layer.Shape.Elements;
            return layer with { Fallback = layer.Fallback ?? (zeros ? $"stored dense: {why}" : null) };
        }

        async Task<EncodedLayer> SparseAsync(StoredSymbols symbols, byte[] present, SparseLayout best)
        {
            var units = best.Unit == 1 ? present : SparseLayout.Joined(present, symbols.Count, best.Unit);
            var mask = best.GapBits == 0 ? units : Gaps(units, best);
            await output.WriteAsync(mask, cancellation);
            await symbols.WriteAsync(units, best.Unit, signs, output, cancellation);
            var values = BitPacking.PlaneBytes((best.Entries + 1) * best.Unit, bits);
            var grid = await MovedGrid.WriteAsync(shard, layer.Grid, mask.Length + values, output, cancellation);
            var sparse = new SparseCodes(new ShardRange(0, mask.Length), best.Entries, best.Unit)
            {
                GapBits = best.GapBits,
                Gaps = best.Gaps,
                Signs = signs,
            };
            return layer with
            {
                Form = isInteger ? layer.Form : SparseForm.Of(sparse).Name,
                Codes = new ShardRange(mask.Length, values),
                Grid = grid,
                Sparse = sparse,
            };
        }
    }

    private static byte[] Gaps(byte[] units, SparseLayout layout)
    {
        var (gaps, at, last) = (new byte[layout.Gaps], 0L, -1L);
        var skip = (1 << layout.GapBits) - 1;
        foreach (var place in SparseLayout.Places(units))
        {
            var gap = place - last - 1;
            for (; gap >= skip; gap -= skip)
                gaps[at++] = (byte)skip;
            gaps[at++] = (byte)gap;
            last = place;
        }
        var packed = new byte[BitPacking.PlaneBytes(layout.Gaps, layout.GapBits)];
        var offset = 0;
        foreach (var (width, shift) in BitPacking.Planes(layout.GapBits))
        {
            var plane = Array.ConvertAll(gaps, g => (byte)(g >> shift & ((1 << width) - 1)));
            BitPacking.Pack(plane, width, packed.AsSpan(offset));
            offset += (int)BitPacking.Bytes(layout.Gaps, width);
        }
        return packed;
    }
}
