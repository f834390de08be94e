using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>
/// The columns of a tile under SparseGPT: a mask for a span of them by w²·M² of the weights corrected so far, M being the diagonal of the
/// Hessian's factor: 1 / M is that of the paper's H⁻¹.
/// </summary>
internal sealed class PrunedColumns : IColumnChange
{
    private readonly RowTile tile;
    private readonly SparsityPattern pattern;
    private readonly PrunedShare share;
    private readonly CholeskyFactor factor;
    private readonly bool[] dead;
    private readonly bool masked;
    private readonly bool[] pruned;
    private readonly double[] sorted;

    /// <summary>Prepares a tile.</summary>
    /// <param name="tile">The rows.</param>
    /// <param name="pattern">Which weights become zero together.</param>
    /// <param name="share">How many.</param>
    /// <param name="factor">M.</param>
    /// <param name="dead">Inputs that were never active: their weights go first.</param>
    /// <param name="maskBlock">Columns whose mask is chosen at once.</param>
    /// <param name="masked">Whether weights that are zero stay zero.</param>
    public PrunedColumns(
        RowTile tile,
        SparsityPattern pattern,
        PrunedShare share,
        CholeskyFactor factor,
        bool[] dead,
        int maskBlock,
        bool masked
    )
    {
        (this.tile, this.pattern, this.share, this.factor, this.dead, this.masked) = (tile, pattern, share, factor, dead, masked);
        Span =
            pattern.IsGroups ? pattern.Of
            : pattern.IsBlocks ? Math.Max(1, maskBlock / pattern.Columns) * pattern.Columns
            : maskBlock;
        Span = Math.Min(Span, Math.Max(1, dead.Length));
        Result = new double[tile.Values.Length];
        var width = Span * tile.Rows;
        (pruned, sorted) = (new bool[width], pattern.IsGroups ? [] : new double[width]);
    }

    /// <summary>The tile's weights afterwards.</summary>
    public double[] Result { get; }

    /// <inheritdoc/>
    public int Span { get; }

    /// <inheritdoc/>
    public void Prepare(Memory<double> expected, int first, int count)
    {
        var scores = expected.Span;
        for (var i = 0; i < count; i++)
        {
            var squared = dead[first + i] ? 0 : factor.Diagonal(first + i) * factor.Diagonal(first + i);
            var given = tile.Values.AsSpan((first + i) * tile.Rows, tile.Rows);
            var column = scores.Slice(i * tile.Rows, tile.Rows);
            for (var r = 0; r < tile.Rows; r++)
                column[r] = masked && given[r] == 0 ? -1 : column[r] * column[r] * squared;
        }
        pruned.AsSpan().Clear();
        if (pattern.IsGroups)
            Groups(scores, count);
        else if (pattern.IsBlocks)
            Blocks(scores, count);
        else
            Any(scores, count);
    }

    /// <inheritdoc/>
    public double Change(ReadOnlySpan<double> adjusted, ReadOnlySpan<double> weights, Span<double> residual, int position)
    {
        var result = Result.AsSpan(position * tile.Rows, tile.Rows);
        var mask = pruned.AsSpan(position % Span * tile.Rows, tile.Rows);
        double error = 0;
        for (var r = 0; r < result.Length; r++)
        {
            result[r] = mask[r] || masked && weights[r] == 0 ? 0 : adjusted[r];
            residual[r] = weights[r] - result[r];
            error += (adjusted[r] - result[r]) * (adjusted[r] - result[r]);
        }
        return error;
    }

    private void Any(ReadOnlySpan<double> scores, int count)
    {
        var weights = count * tile.Rows;
        var wanted = (int)share.Of(weights);
        scores.CopyTo(sorted);
        var (limit, ties) = LeastScores.Of(sorted.AsSpan(0, weights), wanted);
        for (var i = 0; i < weights; i++)
            pruned[i] = scores[i] < limit || scores[i] == limit && ties-- > 0;
        share.Done(wanted);
    }

    private void Groups(ReadOnlySpan<double> scores, int count)
    {
        Span<double> group = stackalloc double[count];
        for (var r = 0; r < tile.Rows; r++)
        {
            for (var i = 0; i < count; i++)
                group[i] = scores[i * tile.Rows + r];
            var bits = LeastScores.Bits(group, count - pattern.KeptOf(count));
            for (var i = 0; i < count; i++)
                pruned[i * tile.Rows + r] = (bits >> i & 1) != 0;
        }
    }

    // The least blocks of the span by their mean score, as many as there is room for.
    private void Blocks(ReadOnlySpan<double> scores, int count)
    {
        var found = new List<(double Score, int Row, int Column)>();
        for (var row = 0; row < tile.Rows; row += pattern.Rows)
        for (var column = 0; column < count; column += pattern.Columns)
        {
            double sum = 0;
            for (var i = column; i < Math.Min(count, column + pattern.Columns); i++)
                sum += System.Numerics.Tensors.TensorPrimitives.Sum(scores.Slice(i * tile.Rows + row, RowsAt(row)));
            found.Add((sum / Size(row, column), row, column));
        }
        var room = share.Of((long)count * tile.Rows);
        foreach (var (_, row, column) in found.OrderBy(b => b.Score).ThenBy(b => b.Row).ThenBy(b => b.Column))
        {
            if ((room -= Size(row, column)) < 0)
                break;
            share.Done(Size(row, column));
            for (var i = column; i < Math.Min(count, column + pattern.Columns); i++)
                pruned.AsSpan(i * tile.Rows + row, RowsAt(row)).Fill(true);
        }

        int Size(int row, int column) => RowsAt(row) * Math.Min(pattern.Columns, count - column);
    }

    private int RowsAt(int row) => Math.Min(pattern.Rows, tile.Rows - row);
}
