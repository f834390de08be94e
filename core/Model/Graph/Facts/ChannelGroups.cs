using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>All groups of coupled channels of a model.</summary>
public sealed class ChannelGroups
{
    private readonly Dictionary<IndexSet, ChannelGroup> byLeaf = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<TensorProto, CoupledConstant> constants = new(ReferenceEqualityComparer.Instance);
    private readonly ChannelCoupling? coupling;
    private ILookup<ChannelGroup, ValueAxis>? values;

    private ChannelGroups(string why) => (All, Lengths, WhyNone) = ([], [], why);

    private ChannelGroups(ChannelCoupling coupling)
    {
        this.coupling = coupling;
        var (direct, derived) = Roles(coupling.Uses);
        var all = new List<ChannelGroup>();
        foreach (var constant in coupling.Constants)
        {
            constants[constant.Tensor] = constant;
            for (var axis = 0; axis < constant.Axes.Count; axis++)
                Add(constant, axis);
        }
        foreach (var use in coupling.Uses)
        foreach (var leaf in IndexPattern.Of(use.Value.Axes![use.Axis]).Select(p => p.Leaf).Distinct())
            byLeaf.GetValueOrDefault(leaf)?.Add(new ChannelUse(use.Scope, use.Node, use.Input, use.Axis, use.Role));
        var lengths = new List<ChannelLength>();
        foreach (var use in coupling.Lengths)
        {
            var length = new ChannelLength(this, use);
            lengths.Add(length);
            foreach (var leaf in use.From.Append(use.Set).SelectMany(IndexPattern.Of).Select(p => p.Leaf).Distinct())
                byLeaf.GetValueOrDefault(leaf)?.Add(length);
        }
        Lengths = lengths;
        All = [.. all.Where(g => g.Members.Any(m => m.Role is ChannelRole.Producer or ChannelRole.Consumer))];

        void Add(CoupledConstant constant, int axis)
        {
            ChannelMember? member = null;
            ChannelGroup? of = null;
            foreach (var pattern in IndexPattern.Of(constant.Axes[axis]))
            {
                if (pattern.Leaf.IsFixed || pattern.Leaf.Size.Value is not (> 1 and <= int.MaxValue))
                    continue;
                if (!byLeaf.TryGetValue(pattern.Leaf, out var group))
                {
                    byLeaf[pattern.Leaf] = group = new ChannelGroup(this, pattern.Leaf);
                    all.Add(group);
                }
                // A leaf may be met twice along an axis, not always in a row.
                if (group != of)
                    member =
                        group.Members is [.., var last] && ReferenceEquals(last.Tensor, constant.Tensor) && last.Axis == axis ? last : null;
                if (member is null)
                {
                    var role =
                        direct.TryGetValue((constant, axis), out var known) || derived.TryGetValue((constant, pattern.Leaf), out known)
                            ? known
                            : ChannelRole.Parameter;
                    member = new ChannelMember(constant.Scope, constant.Name, constant.Tensor, axis, role);
                    group.Add(member);
                }
                of = group;
                member.Add(pattern);
            }
        }
    }

    /// <summary>Every group that a weight's rows or columns belong to, in the order of the file.</summary>
    public IReadOnlyList<ChannelGroup> All { get; }

    /// <summary>Every number of the graph that is a length of known axes.</summary>
    public IReadOnlyList<ChannelLength> Lengths { get; }

    /// <summary>Why there are none, where the graph could not be looked at.</summary>
    public string? WhyNone { get; }

    /// <summary>The groups that an axis of a value holds, in the order of its indices.</summary>
    public IReadOnlyList<ChannelGroup> Of(ValueAxis axis) => Of(AxesOf(axis), axis.Axis);

    /// <summary>The groups that an axis of a constant holds, in the order of its indices.</summary>
    public IReadOnlyList<ChannelGroup> Of(TensorProto constant, int axis) => Of(constants.GetValueOrDefault(constant)?.Axes, axis);

    /// <summary>How long an axis of a constant is when some units of each group are removed.</summary>
    /// <param name="constant">The constant.</param>
    /// <param name="axis">The axis.</param>
    /// <param name="removed">How many units of a group.</param>
    public long Length(TensorProto constant, int axis, Func<ChannelGroup, int> removed) =>
        constants.TryGetValue(constant, out var known) ? Length(known.Axes[axis], removed) : constant.Dims[axis];

    /// <summary>The share of an axis of a value that is left when some units of each group are removed; 1 where it holds none.</summary>
    /// <param name="axis">The axis.</param>
    /// <param name="removed">How many units of a group.</param>
    public double Share(ValueAxis axis, Func<ChannelGroup, int> removed) =>
        AxesOf(axis) is { } axes && axis.Axis >= 0 && axis.Axis < axes.Count ? Share(axes[axis.Axis], removed) : 1;

    private double Share(IndexSet of, Func<ChannelGroup, int> removed)
    {
        of = of.Root;
        if (of.Factors is { } factors)
            return factors.Aggregate(1.0, (share, f) => share * Share(f, removed));
        if (of.Parts is not { } parts)
            return Of(of) is { } group ? 1 - (double)removed(group) / group.Units : 1;
        // Parts of unknown length stay as they are, all of them.
        return of.Size.Value is > 0 and var whole && Array.TrueForAll(parts, p => p.Size.Value is not null)
            ? parts.Sum(p => p.Size.Value!.Value * Share(p, removed)) / whole
            : 1;
    }

    internal long Length(IndexSet of, Func<ChannelGroup, int> removed)
    {
        of = of.Root;
        if (of.Parts is { } parts)
            return parts.Sum(p => Length(p, removed));
        if (of.Factors is { } factors)
            return factors.Aggregate(1L, (n, f) => n * Length(f, removed));
        return of.Size.Value!.Value - (Of(of) is { } group ? removed(group) : 0);
    }

    /// <summary>The group that is the whole of a value's axis, one index a unit; null where there is none.</summary>
    public ChannelGroup? Whole(ValueAxis axis) => Of(axis) is [var group] && WholeOf(axis) == group.Leaf ? group : null;

    /// <summary>Whether two axes have the very same indices in the same order.</summary>
    public bool AreSame(ValueAxis a, ValueAxis b) => WholeOf(a) is { } one && one == WholeOf(b);

    internal static ChannelGroups Of(ModelProto model, ShapeInference shapes, GraphScope main, bool folded)
    {
        try
        {
            return new ChannelGroups(new ChannelCoupling(model, shapes, main, folded));
        }
        catch (InsufficientExecutionStackException)
        {
            return new ChannelGroups("its Splits, Concats and Reshapes are nested too deep");
        }
    }

    internal ChannelGroup? Of(IndexSet leaf) => byLeaf.GetValueOrDefault(leaf);

    internal IReadOnlyList<ValueAxis> ValuesOf(ChannelGroup group)
    {
        values ??= coupling!
            .Values.SelectMany(s =>
                s.Value.Where(v => v.Value.Axes is not null).Select(v => (Scope: s.Key, Name: v.Key, Axes: v.Value.Axes!))
            )
            .SelectMany(v =>
                v.Axes.SelectMany((set, a) => Of(IndexPattern.Of(set)).Select(g => (Group: g, Axis: new ValueAxis(v.Scope, v.Name, a))))
            )
            .ToLookup(p => p.Group, p => p.Axis);
        return [.. values[group]];
    }

    private IndexSet? WholeOf(ValueAxis axis) =>
        AxesOf(axis) is { } axes && axis.Axis >= 0 && axis.Axis < axes.Count ? axes[axis.Axis].Root : null;

    private IReadOnlyList<IndexSet>? AxesOf(ValueAxis axis) =>
        coupling is not null && coupling.Values.TryGetValue(axis.Scope, out var known) ? known.GetValueOrDefault(axis.Value)?.Axes : null;

    private IReadOnlyList<ChannelGroup> Of(IReadOnlyList<IndexSet>? axes, int axis) =>
        axes is not null && axis >= 0 && axis < axes.Count ? [.. Of(IndexPattern.Of(axes[axis]))] : [];

    private IEnumerable<ChannelGroup> Of(IEnumerable<IndexPattern> patterns) =>
        patterns.Select(p => byLeaf.GetValueOrDefault(p.Leaf)).OfType<ChannelGroup>().Distinct();

    private static (Dictionary<(CoupledConstant, int), ChannelRole>, Dictionary<(CoupledConstant, IndexSet), ChannelRole>) Roles(
        IEnumerable<ConstantUse> uses
    )
    {
        var (direct, derived) = (
            new Dictionary<(CoupledConstant, int), ChannelRole>(),
            new Dictionary<(CoupledConstant, IndexSet), ChannelRole>()
        );
        foreach (var use in uses)
        foreach (var source in use.Value.Sources ?? [])
        {
            if (ReferenceEquals(source.Axes, use.Value.Axes))
                direct[(source, use.Axis)] = Stronger(direct.GetValueOrDefault((source, use.Axis)), use.Role);
            else
                foreach (var leaf in IndexPattern.Of(use.Value.Axes![use.Axis]).Select(p => p.Leaf).Distinct())
                    derived[(source, leaf)] = Stronger(derived.GetValueOrDefault((source, leaf)), use.Role);
        }
        return (direct, derived);

        // A weight that is also added to something is a weight.
        static ChannelRole Stronger(ChannelRole a, ChannelRole b) => a > b ? a : b;
    }
}
