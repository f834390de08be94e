using Serverless.Core.Forms;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Finds the codebooks of a layer, and the nearest value for each weight.</summary>
internal static class CodebookFit
{
    /// <summary>Fits a layer.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="options">How.</param>
    /// <param name="masses">What errors count by (<see cref="ErrorWeights"/>); null for the same.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<CodedWeights> RunAsync(
        LayerWork work,
        CodebookOptions options,
        double[][]? masses,
        CancellationToken cancellation
    )
    {
        var shape = work.Shape;
        var layout = new CodebookLayout(shape, options.Bits, 1, CodebookLayout.RowsOf(shape, options.Rows));
        var scales = options.Scale == RowScale.Row ? await RowScales.OfAsync(work.Weight, shape, cancellation) : null;
        var books = options.Values is { } shared
            ? new CodebookValues(shared, Core.Model.Schema.TensorProto.Types.DataType.Float)
            : await BooksAsync(work, layout, options.Start, masses, scales?.Values, cancellation);
        var nearest = new NearestValue[layout.Books];
        var entries = books.Values.Length / nearest.Length;
        var hasZero = options.Values is not null || work.Masked;
        for (var b = 0; b < nearest.Length; b++)
            nearest[b] = new NearestValue(books.Values.AsSpan(b * entries, entries), hasZero, hasZero && work.Masked);
        var symbols = new ushort[shape.Elements];
        double error = 0,
            squares = 0;
        long nonzero = 0;
        await work.Weight.EachAsync(
            (first, part) =>
            {
                _ = BlockScale.Bounds(part);
                for (var i = 0; i < part.Length; i++)
                {
                    var row = nearest.Length == 1 && scales is null ? 0 : shape.Row(first + i);
                    var (book, scale) = (row / layout.BookRows, scales?.Values[row] ?? 1);
                    var symbol = nearest[book].Of(part[i] / scale);
                    symbols[first + i] = (ushort)symbol;
                    var value = (double)books.Values[book * entries + symbol] * scale;
                    error += (part[i] - value) * (part[i] - value);
                    squares += (double)part[i] * part[i];
                    nonzero += value != 0 ? 1 : 0;
                }
            },
            cancellation
        );
        return new CodedWeights(layout, symbols, books)
        {
            Scales = scales,
            IsShared = options.Values is not null,
            HasZero = hasZero && work.Masked,
            Error = error,
            Squares = squares,
            Nonzero = nonzero,
        };
    }

    private static async Task<CodebookValues> BooksAsync(
        LayerWork work,
        CodebookLayout layout,
        ClusterStart start,
        double[][]? masses,
        float[]? scales,
        CancellationToken cancellation
    )
    {
        var shape = layout.Shape;
        var tallies = new ValueTally[layout.Books];
        for (var b = 0; b < tallies.Length; b++)
            tallies[b] = new ValueTally();
        await work.Weight.EachAsync(
            (first, part) =>
            {
                _ = BlockScale.Bounds(part);
                for (var i = 0; i < part.Length; i++)
                {
                    if (work.Masked && part[i] == 0)
                        continue;
                    var row = shape.Row(first + i);
                    var mass = masses is null ? 1 : ErrorWeights.Of(masses, row, shape.Rows)[shape.Column(first + i)];
                    double scale = scales?[row] ?? 1;
                    tallies[row / layout.BookRows].Add((float)(part[i] / scale), mass * scale * scale);
                }
            },
            cancellation
        );
        var most = (1 << layout.Bits) - (work.Masked ? 1 : 0);
        var found = tallies.Select(t => LineClusters.Find(t.ToPoints(), most, start, cancellation)).ToList();
        // Codebooks are of equal length: shorter ones repeat their last value. Zero comes first where there are pruned weights.
        var length = Math.Max(1, found.Max(f => f.Length));
        var values = found.SelectMany(f =>
            Enumerable
                .Range(0, length)
                .Select(i => f.Length == 0 ? 0f : (float)f[Math.Min(i, f.Length - 1)])
                .Prepend(0f)
                .Skip(work.Masked ? 0 : 1)
        );
        return CodebookValues.Of([.. values], layout.Books << layout.Bits);
    }
}
