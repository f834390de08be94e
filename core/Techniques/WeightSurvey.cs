using System.Runtime.InteropServices;

namespace Serverless.Core.Techniques;

/// <summary>What is read of a layer's weights before options are settled.</summary>
/// <param name="Elements">Weights in all.</param>
/// <param name="Magnitudes">Upper 16 bits of |w| as a float → weights that have them.</param>
public sealed record WeightSurvey(long Elements, IReadOnlyDictionary<int, long> Magnitudes)
{
    /// <summary>Dimensions of the weight; null where they were not asked for.</summary>
    public IReadOnlyList<long>? Dims { get; init; }

    /// <summary>Upper 16 bits of w as a float → weights that have them; null where they were not asked for.</summary>
    public IReadOnlyDictionary<int, long>? Values { get; init; }

    /// <summary>Share of the weights whose magnitude is below one.</summary>
    public double ShareBelow(float magnitude)
    {
        var bits = BitConverter.SingleToUInt32Bits(magnitude);
        // As if the weights of a bucket lay evenly in it.
        var below = Magnitudes.Sum(m => m.Value * Math.Clamp((bits - ((double)m.Key * 0x1_0000)) / 0x1_0000, 0, 1));
        return Elements == 0 ? 0 : below / Elements;
    }

    /// <summary>The squares of the weights, added up for each index of each axis; null where they were not asked for.</summary>
    public IReadOnlyList<IReadOnlyList<double>>? Energies { get; init; }

    /// <summary>Adds up the squares of a layer's weights along each axis.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="dims">Its dimensions.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<WeightSurvey> OfChannelsAsync(WeightReader weight, long[] dims, CancellationToken cancellation)
    {
        var energies = dims.Select(d => new double[d]).ToArray();
        await weight.EachAsync(
            (first, part) =>
            {
                for (var i = 0; i < part.Length; i++)
                {
                    var square = (double)part[i] * part[i];
                    var at = first + i;
                    for (var axis = dims.Length - 1; axis >= 0; at /= dims[axis--])
                        energies[axis][at % dims[axis]] += square;
                }
            },
            cancellation
        );
        return new WeightSurvey(weight.Elements, new Dictionary<int, long>()) { Energies = energies };
    }

    /// <summary>Counts the weights of a layer.</summary>
    public static async Task<WeightSurvey> OfAsync(WeightReader weight, CancellationToken cancellation)
    {
        var counts = await CountAsync(weight, bits => (int)(bits >> 16), cancellation);
        return new WeightSurvey(weight.Elements, counts.Select((c, i) => (c, i)).Where(p => p.c > 0).ToDictionary(p => p.i, p => p.c));
    }

    /// <summary>The bucket that holds the weight of a rank when they are sorted by magnitude, and the weights below it.</summary>
    /// <param name="surveys">Layers, all of them together.</param>
    /// <param name="rank">From 0.</param>
    public static (int Bucket, long Below, long Inside) Find(IEnumerable<WeightSurvey> surveys, long rank)
    {
        var counts = new SortedDictionary<int, long>();
        foreach (var (bucket, count) in surveys.SelectMany(s => s.Magnitudes))
            counts[bucket] = counts.GetValueOrDefault(bucket) + count;
        long below = 0;
        foreach (var (bucket, count) in counts)
        {
            if (below + count > rank)
                return (bucket, below, count);
            below += count;
        }
        throw new ArgumentOutOfRangeException(nameof(rank), rank, "There are not so many weights.");
    }

    /// <summary>The magnitude of a rank of one layer, exactly, as the bits of a float.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="rank">From 0, the smallest.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    /// <returns>The magnitude's bits, and how many weights are smaller.</returns>
    public static async Task<(uint Bits, long Smaller)> RankAsync(WeightReader weight, long rank, CancellationToken cancellation)
    {
        var (bucket, below, _) = Find([await OfAsync(weight, cancellation)], rank);
        var inside = await CountAsync(weight, bits => bits >> 16 == bucket ? (int)(bits & 0xffff) : -1, cancellation);
        for (var low = 0; ; low++)
        {
            if (below + inside[low] > rank)
                return ((uint)bucket << 16 | (uint)low, below);
            below += inside[low];
        }
    }

    private static async Task<long[]> CountAsync(WeightReader weight, Func<uint, int> bucketOf, CancellationToken cancellation)
    {
        var counts = new long[1 << 16];
        await weight.EachAsync(
            (_, part) =>
            {
                foreach (var bits in MemoryMarshal.Cast<float, uint>(part))
                    if (bucketOf(bits & 0x7fff_ffff) is var bucket and >= 0)
                        counts[bucket]++;
            },
            cancellation
        );
        return counts;
    }
}
