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
    private const int MostVectors = 1 << 16,
        LeastVectors = 1 << 12,
        EachWord = 64,
        Rounds = 30;

    /// <summary>The codebooks, laid out.</summary>
    public IReadOnlyList<Codewords> Books { get; } = Split(Values.Values, (int)Layout.Books, Layout.Dimension);

    /// <summary>Memory that finding codebooks takes.</summary>
    public static long WorkingBytes(CodebookLayout layout) => Math.Min(layout.Count, layout.Books * Vectors(layout)) * layout.Dimension * 8;

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
        var (d, shape) = (layout.Dimension, layout.Shape);
        // Evenly spaced vectors of each codebook, in the order of rows.
        var perBook = layout.BookRows * layout.Words;
        var count = (int)Math.Min(perBook, Vectors(layout));
        var books = (int)layout.Books;
        var (vectors, weights) = (new float[books][], new float[books][]);
        for (var b = 0; b < books; b++)
            (vectors[b], weights[b]) = (new float[count * d], masses is null ? [] : new float[count * d]);
        await foreach (var tile in WeightTile.EachAsync(work.Weight, shape, 1, cancellation))
            for (var r = 0; r < tile.Rows; r++)
            {
                var row = tile.First + r;
                var (book, first) = (row / layout.BookRows, row % layout.BookRows * layout.Words);
                var scale = scales?.Values[row] ?? 1;
                var mass = masses is null ? null : ErrorWeights.Of(masses, row, shape.Rows);
                // The i-th is vector i · perBook / count of the codebook.
                for (var i = (first * count + perBook - 1) / perBook; i < count; i++)
                {
                    var word = i * perBook / count - first;
                    if (word >= layout.Words)
                        break;
                    for (var place = 0; place < d && word * d + place < shape.Axis; place++)
                    {
                        var k = word * d + place;
                        vectors[book][i * d + place] = (float)(tile.Values[k * tile.Rows + r] / scale);
                        if (mass is not null)
                            weights[book][i * d + place] = (float)(mass[k] * scale * scale);
                    }
                }
            }
        var found = Enumerable
            .Range(0, books)
            .Select(b => VectorClusters.Find(vectors[b], weights[b], d, 1 << layout.Bits, Rounds, cancellation))
            .ToList();
        var length = found.Max(f => f.Length);
        var values = found.SelectMany(f => f.Concat(Enumerable.Range(0, length - f.Length).Select(i => f[f.Length - d + i % d])));
        return new VectorFit(work, layout, masses, scales, CodebookValues.Of([.. values], (layout.Books << layout.Bits) * d));
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

    // A codebook takes as many vectors as its codewords want, and no more than can be clustered in seconds.
    private static long Vectors(CodebookLayout layout) => Math.Clamp((long)EachWord << layout.Bits, LeastVectors, MostVectors);

    private static List<Codewords> Split(float[] values, int books, int dimension)
    {
        var length = values.Length / books;
        return [.. Enumerable.Range(0, books).Select(b => new Codewords(values.AsSpan(b * length, length), dimension))];
    }
}
