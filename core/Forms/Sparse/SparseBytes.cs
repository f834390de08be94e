namespace Serverless.Core.Forms;

/// <summary>What a layer of a density is expected to take in the sparse forms, its zeros anywhere.</summary>
public static class SparseBytes
{
    /// <summary>Expected bytes in the better form, nodes included; null where the layer is stored dense in any case.</summary>
    /// <param name="elements">Weights.</param>
    /// <param name="density">Share of them that is not zero.</param>
    /// <param name="bits">Bits of a weight that is stored.</param>
    /// <param name="store">What forms are chosen by.</param>
    public static long? Estimate(long elements, double density, double bits, Store store) =>
        SparseForm.TakesTooMuch(elements, store)
            ? null
            : (long)Math.Ceiling(Math.Min(Bitmap(elements, density, bits), Gap(elements, density, bits)));

    /// <summary>Expected bytes as a bitmap, nodes included.</summary>
    /// <param name="elements">Weights.</param>
    /// <param name="density">Share of them that is not zero.</param>
    /// <param name="bits">Bits of a weight that is stored.</param>
    public static double Bitmap(long elements, double density, double bits) =>
        elements / 8.0 + elements * density * bits / 8 + SparseLayout.BitmapNodes;

    /// <summary>Expected bytes as gaps of the best width, nodes included.</summary>
    /// <param name="elements">Weights.</param>
    /// <param name="density">Share of them that is not zero.</param>
    /// <param name="bits">Bits of a weight that is stored.</param>
    public static double Gap(long elements, double density, double bits)
    {
        // Of gaps of width w, those of 2^w − 1 zeros and more have skips in front of them: geometric, (1 − d)^S / (1 − (1 − d)^S) an entry.
        var gaps = SparseLayout.Widths.Min(w =>
        {
            var skipped = Math.Pow(1 - density, (1 << w) - 1);
            return elements * density * (1 + (skipped < 1 ? skipped / (1 - skipped) : 0)) * w / 8;
        });
        return gaps + elements * density * bits / 8 + SparseLayout.GapNodes;
    }
}
