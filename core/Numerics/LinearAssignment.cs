namespace Serverless.Core.Numerics;

/// <summary>
/// The linear assignment problem: one column for each row, so that the sum of the chosen elements is largest. Shortest augmenting paths
/// with dual variables (Jonker and Volgenant 1987, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems"), in
/// O(n³).
/// </summary>
public static class LinearAssignment
{
    /// <summary>Solves it.</summary>
    /// <param name="gains">n × n, row-major; finite.</param>
    /// <param name="n">Rows and columns.</param>
    /// <param name="cancellation">Cancels the search.</param>
    /// <returns>The column of each row.</returns>
    public static int[] Maximize(double[] gains, int n, CancellationToken cancellation)
    {
        var (rowOf, columnOf) = (Filled(n, -1), Filled(n, -1));
        var (rows, columns) = (new double[n], new double[n]);
        // Each row takes its best column where that is free; the duals stay feasible.
        for (var i = 0; i < n; i++)
        {
            var best = System.Numerics.Tensors.TensorPrimitives.IndexOfMax<double>(gains.AsSpan(i * n, n));
            rows[i] = -gains[i * n + best];
            if (rowOf[best] < 0)
                (rowOf[best], columnOf[i]) = (i, best);
        }
        var (distance, from, done) = (new double[n], new int[n], new bool[n]);
        for (var i = 0; i < n; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (columnOf[i] >= 0)
                continue;
            Array.Fill(distance, double.PositiveInfinity);
            Array.Fill(from, -1);
            Array.Clear(done);
            var end = Reach(gains, n, i, rows, columns, rowOf, distance, from, done);
            for (var j = end; ; )
            {
                var before = from[j];
                var row = before < 0 ? i : rowOf[before];
                (rowOf[j], columnOf[row]) = (row, j);
                if (before < 0)
                    break;
                j = before;
            }
        }
        return columnOf;
    }

    // Dijkstra over columns from a row without one, until a free column is nearest; the duals of what was passed change by the way.
    private static int Reach(
        double[] gains,
        int n,
        int start,
        double[] rows,
        double[] columns,
        int[] rowOf,
        double[] distance,
        int[] from,
        bool[] done
    )
    {
        var (row, last, passed) = (start, -1, 0.0);
        while (true)
        {
            var (next, least) = (-1, double.PositiveInfinity);
            for (var j = 0; j < n; j++)
            {
                if (done[j])
                    continue;
                var reduced = passed - gains[row * n + j] - rows[row] - columns[j];
                if (reduced < distance[j])
                    (distance[j], from[j]) = (reduced, last);
                if (distance[j] < least)
                    (least, next) = (distance[j], j);
            }
            if (rowOf[next] < 0)
            {
                rows[start] += least;
                for (var j = 0; j < n; j++)
                    if (done[j])
                    {
                        columns[j] -= least - distance[j];
                        rows[rowOf[j]] += least - distance[j];
                    }
                return next;
            }
            (done[next], last, row, passed) = (true, next, rowOf[next], least);
        }
    }

    private static int[] Filled(int n, int value)
    {
        var filled = new int[n];
        Array.Fill(filled, value);
        return filled;
    }
}
