using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A layer that takes the units of a group, with the columns of each.</summary>
/// <param name="Layer">The layer.</param>
/// <param name="Columns">Columns of each unit.</param>
internal sealed record UnitConsumer(LinearLayer Layer, IReadOnlyList<int[]> Columns);

/// <summary>A group whose units may go.</summary>
/// <param name="Number">Its number among the groups of the model.</param>
/// <param name="Group">The group.</param>
/// <param name="Sort">What its units are.</param>
/// <param name="Consumers">The linear layers that take them; other members have none to refit.</param>
internal sealed record PrunableGroup(int Number, ChannelGroup Group, UnitSort Sort, IReadOnlyList<UnitConsumer> Consumers)
{
    /// <summary>The constant that names the group: the first that makes its units.</summary>
    public string Name => NameOf(Group);

    /// <summary>The name of a group: that of the first constant that makes its units.</summary>
    public static string NameOf(ChannelGroup group) =>
        (group.Members.FirstOrDefault(m => m.Role == ChannelRole.Producer) ?? group.Members[0]).Name;

    /// <summary>The groups of a model that a step shrinks, and why not the others.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sort">The units wanted.</param>
    /// <param name="whySkipped">Why a weight is to stay as it is; null where it is not.</param>
    public static (IReadOnlyList<PrunableGroup> Groups, IReadOnlyList<GroupLeft> Left) Of(
        PrunableModel model,
        UnitSort sort,
        Func<Weight, string?> whySkipped
    )
    {
        var (groups, left) = (new List<PrunableGroup>(), new List<GroupLeft>());
        var layers = model.Layers.ToDictionary(l => l.Tensor);
        var skipped = new Dictionary<TensorProto, string>(ReferenceEqualityComparer.Instance);
        foreach (var weight in Weight.Of(model.Model, model.Facts.Roots))
            if (whySkipped(weight) is { } skip)
                skipped[weight.Tensor] = $"'{weight.Name}' is {skip}";
        for (var i = 0; i < model.Groups.Count; i++)
        {
            var group = model.Groups[i];
            var of = SortOf(group);
            var why =
                !group.CanShrink ? group.Reason ?? "it has one unit"
                : sort != UnitSort.All && sort != of ? $"its units are {Word(of)}, and 'of' asks for {Word(sort)}"
                : group.Members.Select(m => skipped.GetValueOrDefault(m.Tensor)).FirstOrDefault(s => s is not null);
            if (why is not null)
            {
                left.Add(new GroupLeft(NameOf(group), group.Units, why));
                continue;
            }
            var consumers = group
                .Members.Where(m => m.Role == ChannelRole.Consumer)
                .Select(m => (Member: m, Layer: layers.GetValueOrDefault(model.PlaceOf(m.Tensor))))
                .Where(m => m.Layer is not null && m.Member.Axis != m.Layer.RowAxis)
                .Select(m => new UnitConsumer(
                    m.Layer!,
                    [.. Enumerable.Range(0, group.Units).Select(u => m.Layer!.ColumnsOf(m.Member.Indices(u).Select(k => (int)k)).ToArray())]
                ));
            groups.Add(new PrunableGroup(i, group, of, [.. consumers]));
        }
        return (groups, left);
    }

    private static string Word(UnitSort sort) => sort.ToString().ToLowerInvariant();

    // By the constants that hold them: a unit of several indices is a head, one of a convolution's weight a channel.
    private static UnitSort SortOf(ChannelGroup group)
    {
        var made = group.Members.Where(m => m.Role is ChannelRole.Producer or ChannelRole.Consumer).ToList();
        if (made.Any(m => m.Span > 1 && group.Members.Any(b => b.Span == m.Span && b.Role == ChannelRole.Consumer)))
            return UnitSort.Heads;
        return made.Any(m => m.Tensor.Dims.Count > 2 && group.Uses.Any(u => u.Node.OpType.StartsWith("Conv", StringComparison.Ordinal)))
            ? UnitSort.Channels
            : UnitSort.Units;
    }
}

/// <summary>A group that no unit is removed of.</summary>
/// <param name="Name">The constant that makes its units.</param>
/// <param name="Units">How many.</param>
/// <param name="Reason">Why.</param>
public sealed record GroupLeft(string Name, int Units, string Reason);
