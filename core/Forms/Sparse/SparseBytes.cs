namespace Serverless.Core.Forms;

/// <summary>What a layer of a density is expected to take in the better sparse form, its zeros anywhere.</summary>
public static class SparseBytes
{
    private static readonly int[] Widths = [2, 3, 4, 5, 6, 8];

    /// <summary>Expected bytes, nodes included.</summary>
    /// <param name="elements">Weights.</param>
    /// <param name="density">Share of them that is not zero.</param>
    /// <param name="bits">Bits of a weight that is stored.</param>
    public static long Estimate(long elements, double density, double bits)
    {
        var values = elements * density * bits / 8;
        var bitmap = elements / 8.0 + values + SparseLayout.BitmapNodes;
        // Of gaps of width w, those of 2^w − 1 zeros and more have skips in front of them: geometric, (1 − d)^S / (1 − (1 − d)^S) an entry.
        var gaps = Widths.Min(w =>
        {
            var skipped = Math.Pow(1 - density, (1 << w) - 1);
            return elements * density * (1 + (skipped < 1 ? skipped / (1 - skipped) : 0)) * w / 8;
        });
        return (long)Math.Ceiling(Math.Min(bitmap, gaps + values + SparseLayout.GapNodes));
    }
}
