namespace Serverless.Core.Numerics;

/// <summary>
/// The division of numbers into ranges of least squared error, by dynamic programming (Wang and Song 2011, "Ckmeans.1d.dp: Optimal k-means
/// Clustering in One Dimension by Dynamic Programming"). The best first number of a last range never falls as the range's end rises, so
/// that each row of the table is filled by halving.
/// </summary>
internal static class LeastError
{
    private const int MostRanges = 2048;

    /// <summary>The means of the ranges.</summary>
    /// <param name="points">The numbers; above 2,048 of them, those between two of 2,048 cuts of equal mass are in one range.</param>
    /// <param name="count">Ranges.</param>
    public static double[] Of(LinePoints points, int count)
    {
        var cuts = Cuts(points, Math.Max(MostRanges, 2 * count));
        var n = cuts.Length - 1;
        var (before, best, starts) = (new double[n + 1], new double[n + 1], new int[count][]);
        for (var end = 1; end <= n; end++)
            before[end] = Cost(points, cuts, 0, end);
        starts[0] = new int[n + 1];
        for (var c = 1; c < count; c++)
        {
            starts[c] = new int[n + 1];
            Row(c + 1, n, c, n - 1);
            (before, best) = (best, before);

            void Row(int low, int high, int from, int to)
            {
                if (low > high)
                    return;
                var middle = (low + high) / 2;
                var (least, at) = (double.PositiveInfinity, from);
                for (var start = from; start <= Math.Min(to, middle - 1); start++)
                    if (before[start] + Cost(points, cuts, start, middle) is var cost && cost < least)
                        (least, at) = (cost, start);
                (best[middle], starts[c][middle]) = (least, at);
                Row(low, middle - 1, from, at);
                Row(middle + 1, high, at, to);
            }
        }
        var (centers, last) = (new double[count], n);
        for (var c = count - 1; c >= 0; c--)
        {
            var start = starts[c][last];
            centers[c] = points.Mean(cuts[start], cuts[last]);
            last = start;
        }
        return centers;
    }

    private static double Cost(LinePoints points, int[] cuts, int from, int to) =>
        points.Error(cuts[from], cuts[to], points.Mean(cuts[from], cuts[to]));

    private static int[] Cuts(LinePoints points, int most) =>
        points.Count <= most
            ? [.. Enumerable.Range(0, points.Count + 1)]
            : [.. Enumerable.Range(0, most).Select(c => c == 0 ? 0 : points.At((double)c / most)).Append(points.Count).Distinct().Order()];
}
