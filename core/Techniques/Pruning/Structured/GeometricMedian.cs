using System.Numerics.Tensors;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Units whose weights lie nearest to all others' go: the others can stand for them (He et al. 2019, "Filter Pruning via Geometric Median
/// for Deep Convolutional Neural Networks Acceleration", section 3.3). Distances are those of the weights that make the units.
/// </summary>
public sealed class GeometricMedian : Shrink
{
    /// <inheritdoc/>
    public override string Method => "median";

    /// <inheritdoc/>
    public override string About => "Units nearest to the geometric median of their layer are removed (He et al. 2019, FPGM).";

    private protected override async Task<UnitOrder> OrderAsync(
        PrunableGroup group,
        UnitFacts facts,
        int most,
        CancellationToken cancellation
    )
    {
        var scores = new double[group.Group.Units];
        foreach (var member in group.Group.Members.Where(m => m.Role == ChannelRole.Producer))
        {
            var distances = Distances(await VectorsAsync(member, scores.Length, facts.Model, cancellation), cancellation);
            if (distances.Average() is > 0 and var mean && double.IsFinite(mean))
                for (var u = 0; u < scores.Length; u++)
                    scores[u] += distances[u] / mean;
        }
        return UnitOrder.ByScore(scores);
    }

    private static async Task<float[][]> VectorsAsync(ChannelMember member, int units, PrunableModel model, CancellationToken cancellation)
    {
        var place = model.PlaceOf(member.Tensor);
        var (values, dims) = (await model.ReadAsync(place, cancellation), model.Dims(place));
        var inner = (int)dims.Skip(member.Axis + 1).Aggregate(1L, (a, b) => a * b);
        var (length, outer) = ((int)dims[member.Axis], (int)dims.Take(member.Axis).Aggregate(1L, (a, b) => a * b));
        return
        [
            .. Enumerable
                .Range(0, units)
                .Select(u =>
                    member
                        .Indices(u)
                        .SelectMany(i => Enumerable.Range(0, outer).Select(o => (o * length + (int)i) * inner))
                        .SelectMany(at => Enumerable.Range(at, inner))
                        .Select(at => values[at])
                        .ToArray()
                ),
        ];
    }

    private static double[] Distances(float[][] vectors, CancellationToken cancellation)
    {
        var sums = new double[vectors.Length];
        for (var i = 0; i < vectors.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            for (var j = i + 1; j < vectors.Length; j++)
            {
                var distance = TensorPrimitives.Distance<float>(vectors[i], vectors[j]);
                (sums[i], sums[j]) = (sums[i] + distance, sums[j] + distance);
            }
        }
        return sums;
    }
}
