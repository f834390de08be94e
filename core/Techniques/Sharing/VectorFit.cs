using Serverless.Core.Forms;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Codebooks of a layer whose codewords are several weights.</summary>
/// <param name="Work">The layer.</param>
/// <param name="Layout">Where its codewords lie.</param>
/// <param name="Masses">What errors count by, of each group of rows; null for the same.</param>
/// <param name="Scales">Scales of rows, or null.</param>
/// <param name="Values">Codebook after codebook, as stored.</param>
internal sealed record VectorFit(LayerWork Work, CodebookLayout Layout, double[][]? Masses, CodebookValues? Scales, CodebookValues Values)
{
    /// <summary>The codebooks, laid out.</summary>
    public IReadOnlyList<Codewords> Books { get; } = Split(Values.Values, (int)Layout.Books, Layout.Dimension);

    /// <summary>Finds codebooks.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="layout">Where codewords lie.</param>
    /// <param name="masses">What errors count by.</param>
    /// <param name="scales">Scales of rows, or null.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<VectorFit> OfAsync(
        LayerWork work,
        CodebookLayout layout,
        double[][]? masses,
        CodebookValues? scales,
        CancellationToken cancellation
    )
    {
        var (d, shape, sample) = (layout.Dimension, layout.Shape, new VectorSample(layout, masses is not null));
        await foreach (var tile in WeightTile.EachAsync(work.Weight, shape, 1, cancellation))
            for (var r = 0; r < tile.Rows; r++)
            {
                var row = tile.First + r;
                var scale = scales?.Values[row] ?? 1;
                var mass = masses is null ? null : ErrorWeights.Of(masses, row, shape.Rows);
                for (long word = 0; word < layout.Words; word++)
                    if (sample.Takes(row, word, out var vector, out var weight))
                        for (var k = word * d; k < Math.Min(shape.Axis, (word + 1) * d); k++)
                        {
                            vector[(int)(k % d)] = (float)(tile.Values[k * tile.Rows + r] / scale);
                            if (mass is not null)
                                weight[(int)(k % d)] = (float)(mass[k] * scale * scale);
                        }
            }
        return new VectorFit(work, layout, masses, scales, sample.Books(cancellation));
    }

    /// <summary>Takes the nearest codeword for each vector.</summary>
    public async Task<CodedWeights> NearestAsync(CancellationToken cancellation)
    {
        var sums = new VectorSums(this);
        var (d, shape) = (Layout.Dimension, Layout.Shape);
        var (vector, weights) = (new float[d], new float[d]);
        await foreach (var tile in WeightTile.EachAsync(Work.Weight, shape, 1, cancellation))
            for (var r = 0; r < tile.Rows; r++)
            {
                var row = tile.First + r;
                var scale = Scales?.Values[row] ?? 1;
                var mass = Masses is null ? null : ErrorWeights.Of(Masses, row, shape.Rows);
                for (long word = 0; word < Layout.Words; word++)
                {
                    var length = (int)Math.Min(d, shape.Axis - word * d);
                    for (var place = 0; place < length; place++)
                    {
                        vector[place] = (float)(tile.Values[(word * d + place) * tile.Rows + r] / scale);
                        weights[place] = mass is null ? 1 : (float)mass[word * d + place];
                    }
                    var symbol = Books[(int)(row / Layout.BookRows)].Nearest(vector.AsSpan(0, length), weights.AsSpan(0, length), out _);
                    sums.Put(row, word, symbol, tile.Values.AsSpan((int)(word * d * tile.Rows + r)), tile.Rows);
                }
            }
        return sums.Coded;
    }

    private static List<Codewords> Split(float[] values, int books, int dimension)
    {
        var length = values.Length / books;
        return [.. Enumerable.Range(0, books).Select(b => new Codewords(values.AsSpan(b * length, length), dimension))];
    }
}
