using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Forms;

/// <summary>How the codewords of a weight lie: their symbols are in the order outer × words × inner of the view.</summary>
/// <param name="Shape">The view.</param>
/// <param name="Bits">Bits of a symbol.</param>
/// <param name="Dimension">Weights of a codeword.</param>
/// <param name="BookRows">Rows that share a codebook.</param>
public sealed record CodebookLayout(LayerShape Shape, int Bits, int Dimension, long BookRows)
{
    /// <summary>Numbers from which they are FLOAT16: fewer are not worth the Cast.</summary>
    public const int HalvesFrom = 64;

    private const int Lookup = 120,
        Step = 85,
        CastNode = 45;

    /// <summary>Codewords of a row.</summary>
    public long Words => (Shape.Axis + Dimension - 1) / Dimension;

    /// <summary>Symbols.</summary>
    public long Count => Shape.Rows * Words;

    /// <summary>Codebooks.</summary>
    public long Books => Shape.Rows / BookRows;

    /// <summary>Bytes of the symbols.</summary>
    public long CodeBytes => BitPacking.PlaneBytes(Count, Bits);

    /// <summary>Bytes of full codebooks.</summary>
    public long ValueBytes => NumberBytes(Books * (1L << Bits) * Dimension);

    /// <summary>Bytes of nodes, as written: with whatever the layout asks for.</summary>
    /// <param name="scaled">Whether rows have scales.</param>
    public long NodeBytes(bool scaled) =>
        PackedIndices.NodeBytes(Count, Bits)
        + Lookup
        + (Books * (1L << Bits) * Dimension >= HalvesFrom ? CastNode : 0)
        + (Books > 1 ? 2 * Step + 4 * Books : 0)
        + (Dimension > 1 && Shape.Inner > 1 ? Step : 0)
        + (Words * Dimension != Shape.Axis ? 2 * Step : 0)
        + (scaled ? 2 * Step + CastNode : 0);

    /// <summary>Bytes of numbers of a codebook, or of scales.</summary>
    /// <param name="count">How many.</param>
    public static long NumberBytes(long count) => count * (count >= HalvesFrom ? 2 : 4);

    /// <summary>
    /// Rows that share a codebook: the most that divide the rows, or those of a slice where rows are columns of the stored matrix, and are
    /// no more than wanted; where that is under half of them, the fewest above.
    /// </summary>
    /// <param name="shape">The view.</param>
    /// <param name="wanted">Rows; null for all.</param>
    public static long RowsOf(LayerShape shape, int? wanted)
    {
        if (wanted is not { } most || most >= shape.Rows)
            return shape.Rows;
        var all = shape.Inner == 1 ? shape.Rows : shape.Inner;
        if (most >= all)
            return all;
        for (long rows = most; rows > most / 2; rows--)
            if (all % rows == 0)
                return rows;
        for (long rows = most + 1; rows < all; rows++)
            if (all % rows == 0)
                return rows;
        return all;
    }
}
