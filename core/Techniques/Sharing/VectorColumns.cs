using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Takes the codewords of a tile of rows, as many columns at a time as a codeword has weights. With H = M·Mᵀ, what a codeword c costs in the
/// place of the weights e, corrected for all columns before, is ‖Mₛᵀ(e − c)‖², Mₛ being M's diagonal block of these columns: the nearest is
/// sought among Mₛᵀc.
/// </summary>
internal sealed class VectorColumns : IColumnChange
{
    private readonly VectorFit fit;
    private readonly double[] weights;
    private readonly long firstRow;
    private readonly int rows;
    private readonly Hessian hessian;
    private readonly VectorSums sums;
    private readonly VectorSample? sample;
    private readonly int[] symbols;
    private int first;

    /// <summary>Begins a tile.</summary>
    /// <param name="fit">The codebooks.</param>
    /// <param name="weights">columns × rows.</param>
    /// <param name="firstRow">The first row.</param>
    /// <param name="rows">How many.</param>
    /// <param name="hessian">Of their input, its columns in the order of codewords.</param>
    /// <param name="sums">Receives the symbols.</param>
    /// <param name="sample">Receives corrected weights, or null.</param>
    public VectorColumns(VectorFit fit, double[] weights, long firstRow, int rows, Hessian hessian, VectorSums sums, VectorSample? sample)
    {
        (this.fit, this.weights, this.firstRow, this.rows) = (fit, weights, firstRow, rows);
        (this.hessian, this.sums, this.sample, symbols) = (hessian, sums, sample, new int[rows]);
    }

    /// <inheritdoc/>
    public int Span => fit.Layout.Dimension;

    /// <inheritdoc/>
    public void Prepare(Memory<double> expected, int first, int count)
    {
        this.first = first;
        var block = new double[count * count];
        for (var i = 0; i < count; i++)
            hessian.Factor.CopyColumn(first + i, first, i + 1, 1, block.AsSpan(i), count);
        var columns = expected.Span;
        var word = hessian.Order[first] / Span;
        var (vector, turned) = (new double[count], new float[count]);
        Codewords? book = null;
        long bookAt = -1;
        for (var r = 0; r < rows; r++)
        {
            var (at, scale) = ((firstRow + r) / fit.Layout.BookRows, Scale(r));
            if (at != bookAt)
                (book, bookAt) = (Turned(fit.Books[(int)at], block, count), at);
            for (var place = 0; place < count; place++)
                vector[place] = columns[place * rows + r] / scale;
            if (sample is not null && sample.Takes(firstRow + r, word, out var corrected, out var weight))
                for (var place = 0; place < count; place++)
                {
                    corrected[place] = (float)vector[place];
                    weight[place] = (float)Math.Pow(block[place * count + place] * scale, 2);
                }
            Turn(vector, block, turned);
            symbols[r] = book!.Nearest(turned, [], out _);
            sums.Put(firstRow + r, word, symbols[r], weights.AsSpan(word * Span * rows + r), rows);
        }
    }

    /// <inheritdoc/>
    public double Change(ReadOnlySpan<double> adjusted, ReadOnlySpan<double> target, Span<double> residual, int position)
    {
        double error = 0;
        for (var r = 0; r < rows; r++)
        {
            var value = fit.Books[(int)((firstRow + r) / fit.Layout.BookRows)][symbols[r], position - first] * Scale(r);
            residual[r] = target[r] - value;
            error += (adjusted[r] - value) * (adjusted[r] - value);
        }
        return error;
    }

    private double Scale(int row) => fit.Scales?.Values[firstRow + row] ?? 1;

    private static Codewords Turned(Codewords book, double[] block, int count)
    {
        var (vector, turned) = (new double[count], new float[book.Count * count]);
        for (var word = 0; word < book.Count; word++)
        {
            for (var place = 0; place < count; place++)
                vector[place] = book[word, place];
            Turn(vector, block, turned.AsSpan(word * count, count));
        }
        return new Codewords(turned, count);
    }

    // Mₛᵀ·v.
    private static void Turn(double[] vector, double[] block, Span<float> turned)
    {
        for (var i = 0; i < vector.Length; i++)
        {
            double sum = 0;
            for (var j = 0; j <= i; j++)
                sum += block[j * vector.Length + i] * vector[j];
            turned[i] = (float)sum;
        }
    }
}
