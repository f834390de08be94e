using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>Rows of what a layer takes, x: XᵀX and Σx.</summary>
internal sealed class LayerMoments : IDisposable
{
    /// <summary>Rows of a sample, at most: more of one picture tell little that is new.</summary>
    public const int MostRows = 256;

    private const int BufferBytes = 1 << 20;

    private readonly InputView view;
    private readonly GramMatrix gram;
    private readonly double[] sums;
    private readonly double[] rows;

    /// <summary>Of nothing yet.</summary>
    /// <param name="view">The view of x.</param>
    public LayerMoments(InputView view) =>
        (this.view, gram, sums, rows) = (
            view,
            new GramMatrix(view.Axis, spill: false, BufferBytes),
            new double[view.Axis],
            new double[MostRows * view.Axis]
        );

    /// <summary>Rows seen.</summary>
    public long Count => gram.Rows;

    /// <summary>Order of the matrix.</summary>
    public int Columns => view.Axis;

    /// <summary>Σx.</summary>
    public ReadOnlySpan<double> Sums => sums;

    /// <summary>Adds a sample.</summary>
    /// <param name="values">The tensor.</param>
    /// <param name="shape">Its dimensions.</param>
    /// <param name="most">Rows at most.</param>
    /// <returns>The rows, one after another; none where they are not finite.</returns>
    public ReadOnlyMemory<double> Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape, int most)
    {
        var count = InputRows.Take(values, shape, view, 0, most, rows);
        var taken = rows.AsMemory(0, count * view.Axis);
        if (!double.IsFinite(System.Numerics.Tensors.TensorPrimitives.SumOfSquares<double>(taken.Span)))
            return default;
        for (var done = 0; done < count; )
        {
            var part = Math.Min(count - done, gram.Next.Length / view.Axis);
            taken.Span.Slice(done * view.Axis, part * view.Axis).CopyTo(gram.Next);
            gram.Added(part);
            done += part;
        }
        for (var r = 0; r < count; r++)
            System.Numerics.Tensors.TensorPrimitives.Add(sums, taken.Span.Slice(r * view.Axis, view.Axis), sums);
        return taken;
    }

    /// <summary>XᵀX / n; the covariance where it is centred.</summary>
    /// <param name="centred">Whether the mean is taken off.</param>
    public double[] Matrix(bool centred)
    {
        var matrix = gram.ToArray();
        var n = (double)Math.Max(1, Count);
        for (var i = 0; i < Columns; i++)
        for (var j = 0; j < Columns; j++)
            matrix[i * Columns + j] = matrix[i * Columns + j] / n - (centred ? sums[i] / n * (sums[j] / n) : 0);
        return matrix;
    }

    /// <inheritdoc/>
    public void Dispose() => gram.Dispose();
}
