namespace Serverless.Core.Forms;

/// <summary>Bytes of weights most of which are zero.</summary>
public static class SparseBytes
{
    /// <summary>A bit for each weight, and the bits of those that are not zero.</summary>
    /// <param name="elements">Weights.</param>
    /// <param name="density">Share of them that is not zero.</param>
    /// <param name="bitsPerValue">Bits of one that is not zero.</param>
    public static long Estimate(long elements, double density, double bitsPerValue) =>
        (elements + 7) / 8 + (long)Math.Ceiling(density * elements * bitsPerValue / 8);
}
