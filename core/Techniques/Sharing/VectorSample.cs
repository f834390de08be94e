using Serverless.Core.Forms;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Some vectors of each codebook of a layer, evenly spaced in the order of rows, that its codewords are found from.</summary>
internal sealed class VectorSample
{
    private const int Most = 1 << 16,
        Least = 1 << 12,
        EachWord = 64,
        Rounds = 30;

    private readonly CodebookLayout layout;
    private readonly long all;
    private readonly int count;
    private readonly float[][] vectors;
    private readonly float[][] weights;

    /// <summary>Begins a sample.</summary>
    /// <param name="layout">Where codewords lie.</param>
    /// <param name="weighted">Whether elements have weights.</param>
    public VectorSample(CodebookLayout layout, bool weighted)
    {
        (this.layout, all) = (layout, layout.BookRows * layout.Words);
        count = (int)Math.Min(all, Wanted(layout));
        vectors = [.. Enumerable.Range(0, (int)layout.Books).Select(_ => new float[count * layout.Dimension])];
        weights = [.. vectors.Select(v => weighted ? new float[v.Length] : [])];
    }

    /// <summary>Memory that a sample takes.</summary>
    public static long Bytes(CodebookLayout layout) => Math.Min(layout.Count, layout.Books * Wanted(layout)) * layout.Dimension * 8;

    /// <summary>Whether the sample takes a vector, and where.</summary>
    /// <param name="row">Its row.</param>
    /// <param name="word">Its place in the row.</param>
    /// <param name="vector">Where its elements go, zeros before.</param>
    /// <param name="weight">Where their weights go; nothing where they have none.</param>
    public bool Takes(long row, long word, out Span<float> vector, out Span<float> weight)
    {
        var place = row % layout.BookRows * layout.Words + word;
        var i = (place * count + all - 1) / all;
        var taken = i < count && i * all / count == place;
        var (book, at, d) = (row / layout.BookRows, (int)i * layout.Dimension, layout.Dimension);
        vector = taken ? vectors[book].AsSpan(at, d) : [];
        weight = taken && weights[book].Length > 0 ? weights[book].AsSpan(at, d) : [];
        return taken;
    }

    /// <summary>The codebooks, one after another; shorter ones repeat their last codeword.</summary>
    public CodebookValues Books(CancellationToken cancellation)
    {
        var d = layout.Dimension;
        var found = vectors.Select((v, b) => VectorClusters.Find(v, weights[b], d, 1 << layout.Bits, Rounds, cancellation)).ToList();
        var length = found.Max(f => f.Length);
        var values = found.SelectMany(f => f.Concat(Enumerable.Range(0, length - f.Length).Select(i => f[f.Length - d + i % d])));
        return CodebookValues.Of([.. values], (layout.Books << layout.Bits) * d);
    }

    // As many as codewords want, and no more than can be clustered in seconds.
    private static long Wanted(CodebookLayout layout) => Math.Clamp((long)EachWord << layout.Bits, Least, Most);
}
