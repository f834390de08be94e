using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>For what a layer technique settles its options at once, when it has read the weights.</summary>
public enum UnitKind
{
    /// <summary>One weight: its options are known from the start, and no weight is read beforehand.</summary>
    Weight,

    /// <summary>The weights that some axis of theirs couples: its indices are the same channels (<see cref="ChannelGroup"/>).</summary>
    Channels,

    /// <summary>All layers that the step has the same options for.</summary>
    Layers,
}

/// <summary>Layers whose options are settled at once.</summary>
/// <param name="Members">The layers.</param>
/// <param name="Channels">How many channels are coupled; 0 in a set of layers.</param>
/// <param name="IsWhole">Whether every weight that makes or takes the channels is a member; true of a set of layers.</param>
public sealed record LayerUnit(IReadOnlyList<UnitMember> Members, int Channels = 0, bool IsWhole = true)
{
    /// <summary>Settles the options of layers, unit by unit.</summary>
    /// <param name="technique">The technique.</param>
    /// <param name="options">Its options, the same for all of the layers.</param>
    /// <param name="layers">The layers, with what was read of them.</param>
    /// <param name="facts">Facts of the model that holds the weights.</param>
    /// <returns>Options of each layer.</returns>
    internal static IReadOnlyList<object> Settle(
        LayerTechnique technique,
        object options,
        IReadOnlyList<(Weight Weight, WeightSurvey Survey)> layers,
        GraphFacts facts
    )
    {
        var settled = layers.Select(_ => options).ToArray();
        if (technique.Units(options) == UnitKind.Layers)
            return technique.Allocate(new LayerUnit([.. layers.Select(l => new UnitMember(l.Survey, []))]), settled);
        var places = new Dictionary<TensorProto, int>(ReferenceEqualityComparer.Instance);
        for (var i = 0; i < layers.Count; i++)
            places[layers[i].Weight.Tensor] = i;
        foreach (var group in facts.Groups.All.Where(g => g.CanShrink))
        {
            var axes = group.Members.Where(m => places.ContainsKey(m.Tensor)).ToLookup(m => places[m.Tensor]);
            if (axes.Count == 0)
                continue;
            var unit = new LayerUnit(
                [.. axes.Select(a => new UnitMember(layers[a.Key].Survey, [.. a]))],
                group.Units,
                group.Members.All(m => m.Role is not (ChannelRole.Producer or ChannelRole.Consumer) || places.ContainsKey(m.Tensor))
            );
            var found = technique.Allocate(unit, [.. axes.Select(a => settled[a.Key])]);
            foreach (var (axis, own) in axes.Zip(found))
                settled[axis.Key] = own;
        }
        return settled;
    }
}

/// <summary>A layer of a unit.</summary>
/// <param name="Survey">What was read of its weight.</param>
/// <param name="Axes">The axes of the weight that hold the unit's channels; none in a set of layers.</param>
public sealed record UnitMember(WeightSurvey Survey, IReadOnlyList<ChannelMember> Axes)
{
    /// <summary>The squares of a channel's weights, added up along an axis.</summary>
    /// <param name="axis">One of <see cref="Axes"/>.</param>
    /// <param name="channel">From 0.</param>
    /// <exception cref="InvalidOperationException">The survey has no squares.</exception>
    public double Energy(ChannelMember axis, int channel)
    {
        var energies = Survey.Energies ?? throw new InvalidOperationException("The survey has no squares: read it by OfChannelsAsync.");
        return axis.Indices(channel).Sum(i => energies[axis.Axis][(int)i]);
    }
}
