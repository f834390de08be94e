using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>Sums over the weights of each unit, over all constants that make or take the units of a group.</summary>
internal static class UnitNorms
{
    /// <summary>
    /// Adds up f(w) over each unit's weights, constant by constant, each over its mean: constants of large weights do not outweigh others
    /// (Fang et al. 2023, "DepGraph", section 3.3).
    /// </summary>
    /// <param name="group">The group.</param>
    /// <param name="model">The model.</param>
    /// <param name="of">f.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<double[]> OfAsync(
        PrunableGroup group,
        PrunableModel model,
        Func<float, double> of,
        CancellationToken cancellation
    )
    {
        var all = new double[group.Group.Units];
        foreach (var member in group.Group.Members.Where(m => m.Role is ChannelRole.Producer or ChannelRole.Consumer))
        {
            var sums = await OfAsync(member, group.Group.Units, model, of, cancellation);
            var mean = sums.Average();
            if (mean > 0 && double.IsFinite(mean))
                for (var u = 0; u < sums.Length; u++)
                    all[u] += sums[u] / mean;
        }
        return all;
    }

    /// <summary>Adds up f(w) over the weights of each unit of one constant.</summary>
    public static async Task<double[]> OfAsync(
        ChannelMember member,
        int units,
        PrunableModel model,
        Func<float, double> of,
        CancellationToken cancellation
    )
    {
        var place = model.PlaceOf(member.Tensor);
        var values = await model.ReadAsync(place, cancellation);
        var (dims, sums) = (model.Dims(place), new double[units]);
        var inner = (int)dims.Skip(member.Axis + 1).Aggregate(1L, (a, b) => a * b);
        var (length, unitOf) = ((int)dims[member.Axis], new int[dims[member.Axis]]);
        Array.Fill(unitOf, -1);
        for (var u = 0; u < units; u++)
            foreach (var i in member.Indices(u))
                unitOf[i] = u;
        for (var at = 0; at < values.Length; at++)
            if (unitOf[at / inner % length] is >= 0 and var unit)
                sums[unit] += of(values[at]);
        return sums;
    }
}
