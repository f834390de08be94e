using Serverless.Core.Numerics;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>k-means on a line and of vectors.</summary>
public class ClusterTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    public void Optimal_clusters_are_the_best_of_all_divisions(int count)
    {
        var random = new Random(3);
        var values = Enumerable.Range(0, 14).Select(_ => (float)NormalNumbers.Next(random)).Order().ToArray();
        var masses = values.Select(_ => random.NextDouble() + 0.1).ToArray();
        var tally = new ValueTally();
        for (var i = 0; i < values.Length; i++)
            tally.Add(values[i], masses[i]);
        var points = tally.ToPoints();
        var found = LineClusters.Error(points, LineClusters.Find(points, count, ClusterStart.Optimal, default));
        Assert.Equal(Best(0, count), found, 9);

        double Best(int from, int left) =>
            left == 1
                ? Cost(from, values.Length)
                : Enumerable.Range(from + 1, values.Length - from - left + 1).Min(to => Cost(from, to) + Best(to, left - 1));

        double Cost(int from, int to)
        {
            var range = Enumerable.Range(from, to - from).ToList();
            var mean = range.Sum(i => masses[i] * values[i]) / range.Sum(i => masses[i]);
            return range.Sum(i => masses[i] * Math.Pow(values[i] - mean, 2));
        }
    }

    [Fact]
    public void No_start_ends_below_the_optimal_one_and_every_center_is_the_mean_of_its_numbers()
    {
        var values = Numbers(20_000);
        var tally = new ValueTally();
        Array.ForEach(values, v => tally.Add(v, 1));
        var points = tally.ToPoints();
        var optimal = LineClusters.Error(points, LineClusters.Find(points, 16, ClusterStart.Optimal, default));
        foreach (var start in Enum.GetValues<ClusterStart>())
        {
            var centers = LineClusters.Find(points, 16, start, default);
            Assert.Equal(16, centers.Length);
            Assert.True(optimal <= LineClusters.Error(points, centers) * 1.001, $"{start}");
            var nearest = values.GroupBy(v => centers.MinBy(c => Math.Abs(v - c)));
            Assert.All(nearest, g => Assert.Equal(g.Average(v => (double)v), g.Key, 1e-3));
        }
    }

    [Fact]
    public void Many_numbers_are_clustered_in_buckets_nearly_as_well_as_exactly()
    {
        var values = Numbers(1_200_000);
        var tally = new ValueTally();
        Array.ForEach(values, v => tally.Add(v, 1));
        var centers = LineClusters.Find(tally.ToPoints(), 16, ClusterStart.Linear, default);
        var exact = new LinePoints([.. values.Order().Select(v => ((double)v, 1.0, (double)v * v))]);
        var wanted = LineClusters.Find(exact, 16, ClusterStart.Linear, default);
        Assert.InRange(LineClusters.Error(exact, centers) / LineClusters.Error(exact, wanted), 0.999, 1.001);
    }

    [Fact]
    public void Few_numbers_are_their_own_centers()
    {
        var tally = new ValueTally();
        foreach (var v in new[] { 3f, -1, 3, 0, -1 })
            tally.Add(v, 1);
        Assert.Equal([-1.0, 0, 3], LineClusters.Find(tally.ToPoints(), 16, ClusterStart.Linear, default));
    }

    [Fact]
    public void The_nearest_codeword_is_that_of_the_formula()
    {
        var random = new Random(5);
        var (values, x, weights) = (Numbers(37 * 3), new float[3], new float[3]);
        var words = new Codewords(values, 3);
        for (var t = 0; t < 500; t++)
        {
            for (var p = 0; p < 3; p++)
                (x[p], weights[p]) = ((float)NormalNumbers.Next(random), (float)random.NextDouble());
            var sums = Enumerable
                .Range(0, 37)
                .Select(w => Enumerable.Range(0, 3).Sum(p => weights[p] * Math.Pow(x[p] - values[w * 3 + p], 2)))
                .ToList();
            var found = words.Nearest(x, weights, out var least);
            Assert.Equal(sums.Min(), sums[found], 1e-5);
            Assert.Equal(sums.Min(), least, 1e-4);
        }
    }

    [Fact]
    public void Centers_of_vectors_are_weighted_means_and_no_more_than_differ()
    {
        var vectors = Numbers(4000);
        var random = new Random(9);
        var weights = vectors.Select(_ => (float)random.NextDouble() + 0.1f).ToArray();
        var centers = VectorClusters.Find(vectors, weights, 2, 16, 200, default);
        Assert.Equal(32, centers.Length);
        var words = new Codewords(centers, 2);
        var nearest = Enumerable.Range(0, 2000).GroupBy(i => words.Nearest(vectors.AsSpan(2 * i, 2), weights.AsSpan(2 * i, 2), out _));
        foreach (var g in nearest)
            for (var p = 0; p < 2; p++)
            {
                var mean = g.Sum(i => (double)weights[2 * i + p] * vectors[2 * i + p]) / g.Sum(i => (double)weights[2 * i + p]);
                Assert.Equal(mean, words[g.Key, p], 0.05);
            }
        Assert.Equal(2 * 2, VectorClusters.Find([1, 2, 3, 4, 1, 2, 3, 4], [], 2, 16, 10, default).Length);
    }

    private static float[] Numbers(int count)
    {
        var random = new Random(7);
        return [.. Enumerable.Range(0, count).Select(i => (float)NormalNumbers.Next(random) * (i % 50 == 0 ? 4 : 1))];
    }
}
