namespace Serverless.Core.Techniques.Sharing;

/// <summary>Symbols of a layer as they are chosen, with their errors.</summary>
/// <param name="fit">The codebooks.</param>
internal sealed class VectorSums(VectorFit fit)
{
    private readonly ushort[] symbols = new ushort[fit.Layout.Count];
    private double error,
        squares;
    private long nonzero;

    /// <summary>The layer, when every symbol is there.</summary>
    public CodedWeights Coded =>
        new(fit.Layout, symbols, fit.Values)
        {
            Scales = fit.Scales,
            Error = error,
            Squares = squares,
            Nonzero = nonzero,
        };

    /// <summary>Takes a symbol.</summary>
    /// <param name="row">Its row.</param>
    /// <param name="word">Its place in the row.</param>
    /// <param name="symbol">The symbol.</param>
    /// <param name="weights">The weights that it stands for, each <paramref name="stride"/> behind the one before.</param>
    /// <param name="stride">Distance of two of them.</param>
    public void Put(long row, long word, int symbol, ReadOnlySpan<double> weights, int stride)
    {
        var (shape, d) = (fit.Layout.Shape, fit.Layout.Dimension);
        symbols[(row / shape.Inner * fit.Layout.Words + word) * shape.Inner + row % shape.Inner] = (ushort)symbol;
        var book = fit.Books[(int)(row / fit.Layout.BookRows)];
        double scale = fit.Scales?.Values[row] ?? 1;
        for (var place = 0; place < d && word * d + place < shape.Axis; place++)
        {
            var (weight, value) = (weights[place * stride], book[symbol, place] * scale);
            error += (weight - value) * (weight - value);
            squares += weight * weight;
            nonzero += value != 0 ? 1 : 0;
        }
    }
}
