namespace Serverless.Core.Numerics;

/// <summary>
/// k-means of numbers (Lloyd 1982, "Least Squares Quantization in PCM"): the boundary of two clusters is halfway between their centers, and
/// a center is the mean of its numbers. An empty cluster takes the farthest end of the cluster of most error.
/// </summary>
public static class LineClusters
{
    private const int MostRounds = 300,
        Seed = 1;

    /// <summary>Finds the centers.</summary>
    /// <param name="points">The numbers.</param>
    /// <param name="count">Centers; fewer are found where there are fewer numbers.</param>
    /// <param name="start">Where to begin.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The centers in rising order, all different.</returns>
    public static double[] Find(LinePoints points, int count, ClusterStart start, CancellationToken cancellation)
    {
        if (points.Count <= count)
            return [.. Enumerable.Range(0, points.Count).Select(i => points[i])];
        var centers = Start(points, count, start);
        Array.Sort(centers);
        var (bounds, error) = (new int[count + 1], double.PositiveInfinity);
        for (var round = 0; round < MostRounds; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            Divide(points, centers, bounds);
            if (Fill(points, centers, bounds))
                continue;
            for (var c = 0; c < count; c++)
                centers[c] = points.Mean(bounds[c], bounds[c + 1]);
            var now = Enumerable.Range(0, count).Sum(c => points.Error(bounds[c], bounds[c + 1], centers[c]));
            if (now >= error)
                break;
            error = now;
        }
        return [.. centers.Distinct()];
    }

    /// <summary>Squared distance of all numbers to their nearest center, by mass.</summary>
    /// <param name="points">The numbers.</param>
    /// <param name="centers">In rising order.</param>
    public static double Error(LinePoints points, double[] centers)
    {
        var bounds = new int[centers.Length + 1];
        Divide(points, centers, bounds);
        return Enumerable.Range(0, centers.Length).Sum(c => points.Error(bounds[c], bounds[c + 1], centers[c]));
    }

    private static void Divide(LinePoints points, double[] centers, int[] bounds)
    {
        for (var c = 1; c < centers.Length; c++)
            bounds[c] = points.Above((centers[c - 1] + centers[c]) / 2);
        bounds[^1] = points.Count;
    }

    // Moves the centers of empty clusters; whether there were such.
    private static bool Fill(LinePoints points, double[] centers, int[] bounds)
    {
        var moved = false;
        for (var c = 0; c < centers.Length; c++)
        {
            if (bounds[c] < bounds[c + 1])
                continue;
            var worst = Enumerable
                .Range(0, centers.Length)
                .Where(w => bounds[w + 1] - bounds[w] > 1)
                .MaxBy(w => points.Error(bounds[w], bounds[w + 1], centers[w]));
            var (low, high) = (points[bounds[worst]], points[bounds[worst + 1] - 1]);
            centers[c] = centers[worst] - low > high - centers[worst] ? low : high;
            Array.Sort(centers);
            Divide(points, centers, bounds);
            moved = true;
        }
        return moved;
    }

    private static double[] Start(LinePoints points, int count, ClusterStart start)
    {
        var (low, high) = (points[0], points[points.Count - 1]);
        return start switch
        {
            ClusterStart.Linear =>
            [
                .. Enumerable.Range(0, count).Select(c => count == 1 ? (low + high) / 2 : low + (high - low) * c / (count - 1)),
            ],
            ClusterStart.Density => [.. Enumerable.Range(0, count).Select(c => points[points.At((c + 0.5) / count)])],
            ClusterStart.Random => Drawn(points, count),
            ClusterStart.PlusPlus => DrawnApart(points, count),
            _ => LeastError.Of(points, count),
        };
    }

    private static double[] Drawn(LinePoints points, int count)
    {
        var random = new Random(Seed);
        return [.. Enumerable.Range(0, count).Select(_ => points[points.At(random.NextDouble())])];
    }

    // Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding", section 2.2.
    private static double[] DrawnApart(LinePoints points, int count)
    {
        var (random, n) = (new Random(Seed), points.Count);
        var (centers, distances) = (new List<double> { points[points.At(random.NextDouble())] }, new double[n]);
        Array.Fill(distances, double.PositiveInfinity);
        while (centers.Count < count)
        {
            var total = 0.0;
            for (var i = 0; i < n; i++)
            {
                var d = points[i] - centers[^1];
                distances[i] = Math.Min(distances[i], d * d);
                total += distances[i] * points.Mass(i, i + 1);
            }
            var (left, at) = (random.NextDouble() * total, 0);
            while (at < n - 1 && (left -= distances[at] * points.Mass(at, at + 1)) > 0)
                at++;
            centers.Add(points[at]);
        }
        return [.. centers];
    }
}
