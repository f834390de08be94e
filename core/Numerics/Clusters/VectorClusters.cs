using System.Numerics.Tensors;

namespace Serverless.Core.Numerics;

/// <summary>
/// k-means of vectors (Lloyd 1982), each element with a weight of its own, from centers drawn by their squared distance to those drawn
/// before (Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding", section 2.2). The seed is fixed. An empty cluster
/// takes the vector that is farthest from its center.
/// </summary>
public static class VectorClusters
{
    private const int Seed = 1;
    private const double Still = 1e-4;

    /// <summary>Finds the centers.</summary>
    /// <param name="vectors">Vector after vector.</param>
    /// <param name="weights">A weight for each element, or none for 1 each.</param>
    /// <param name="dimension">Elements of a vector.</param>
    /// <param name="count">Centers; fewer are found where fewer vectors differ.</param>
    /// <param name="rounds">Rounds at most.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>Center after center.</returns>
    public static float[] Find(float[] vectors, float[] weights, int dimension, int count, int rounds, CancellationToken cancellation)
    {
        var n = vectors.Length / dimension;
        var centers = Start(vectors, weights, dimension, count, cancellation);
        count = centers.Length / dimension;
        var (nearest, distances, error) = (new int[n], new float[n], double.PositiveInfinity);
        for (var round = 0; round < rounds; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            var words = new Codewords(centers, dimension);
            for (var i = 0; i < n; i++)
                nearest[i] = words.Nearest(Of(vectors, i, dimension), Of(weights, i, dimension), out distances[i]);
            Center(vectors, weights, dimension, nearest, distances, centers);
            var now = distances.Sum(d => (double)d);
            if (now >= error * (1 - Still))
                break;
            error = now;
        }
        return centers;
    }

    private static ReadOnlySpan<float> Of(float[] all, int i, int dimension) => all.Length == 0 ? [] : all.AsSpan(i * dimension, dimension);

    private static void Center(float[] vectors, float[] weights, int dimension, int[] nearest, float[] distances, float[] centers)
    {
        var (sums, masses, members) = (new double[centers.Length], new double[centers.Length], new int[centers.Length / dimension]);
        for (var i = 0; i < nearest.Length; i++)
        {
            members[nearest[i]]++;
            for (var place = 0; place < dimension; place++)
            {
                var (at, to) = (i * dimension + place, nearest[i] * dimension + place);
                double weight = weights.Length == 0 ? 1 : weights[at];
                masses[to] += weight;
                sums[to] += weight * vectors[at];
            }
        }
        for (var c = 0; c < centers.Length; c++)
            if (masses[c] > 0)
                centers[c] = (float)(sums[c] / masses[c]);
        for (var word = 0; word < members.Length; word++)
        {
            if (members[word] > 0)
                continue;
            var farthest = TensorPrimitives.IndexOfMax<float>(distances);
            distances[farthest] = 0;
            vectors.AsSpan(farthest * dimension, dimension).CopyTo(centers.AsSpan(word * dimension));
        }
    }

    private static float[] Start(float[] vectors, float[] weights, int dimension, int count, CancellationToken cancellation)
    {
        var (random, n) = (new Random(Seed), vectors.Length / dimension);
        var (centers, distances) = (new List<float>(), new float[n]);
        distances.AsSpan().Fill(float.PositiveInfinity);
        var next = random.Next(n);
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            var center = vectors.AsSpan(next * dimension, dimension);
            centers.AddRange(center);
            if (centers.Count == count * dimension)
                return [.. centers];
            double total = 0;
            for (var i = 0; i < n; i++)
            {
                float distance = 0;
                for (var place = 0; place < dimension; place++)
                {
                    var d = vectors[i * dimension + place] - center[place];
                    distance += (weights.Length == 0 ? 1 : weights[i * dimension + place]) * d * d;
                }
                distances[i] = Math.Min(distances[i], distance);
                total += distances[i];
            }
            if (total == 0)
                return [.. centers];
            (var left, next) = (random.NextDouble() * total, 0);
            while (next < n - 1 && (distances[next] == 0 || (left -= distances[next]) > 0))
                next++;
            // Rounding of the sum may end behind the last that is no center already.
            while (distances[next] == 0)
                next--;
        }
    }
}
