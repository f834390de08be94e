using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// What a model without some units takes, over what it takes now: a sum over its constants, each in proportion to its elements.
/// </summary>
internal sealed class ShrinkCost
{
    private readonly PrunableModel model;
    private readonly IReadOnlyList<PrunableGroup> groups;
    private readonly Dictionary<ChannelGroup, int> numbers;
    private readonly (int Place, double Weight)[] constants;
    private readonly double total;

    /// <summary>Of some weights.</summary>
    /// <param name="model">The model.</param>
    /// <param name="groups">Groups that may shrink.</param>
    /// <param name="weights">What each constant takes now, by place.</param>
    /// <param name="rest">What other things take, which do not change.</param>
    public ShrinkCost(PrunableModel model, IReadOnlyList<PrunableGroup> groups, IReadOnlyDictionary<int, double> weights, double rest)
    {
        (this.model, this.groups) = (model, groups);
        numbers = groups.Select((g, i) => (g.Group, i)).ToDictionary(g => g.Group, g => g.i);
        constants = [.. weights.Where(w => w.Value > 0).Select(w => (w.Key, w.Value))];
        total = constants.Sum(c => c.Weight) + rest;
        Rest = rest;
    }

    private double Rest { get; }

    /// <summary>The ratio.</summary>
    /// <param name="removed">Units that go of each group.</param>
    public double Of(IReadOnlyList<int> removed)
    {
        int Removed(ChannelGroup g) => numbers.TryGetValue(g, out var i) ? removed[i] : 0;
        var sum = Rest;
        foreach (var (place, weight) in constants)
        {
            var share = 1.0;
            for (var axis = 0; axis < model.Dims(place).Count; axis++)
                share *= (double)model.Length(place, axis, Removed) / Math.Max(1, model.Dims(place)[axis]);
            sum += weight * share;
        }
        return total == 0 ? 1 : sum / total;
    }
}
