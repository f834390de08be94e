using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Channels, hidden units, heads or groups that go together: indices of axes of constants and values that are one and the same, so that a
/// unit can only be removed everywhere at once. To remove some, cut their indices out of all members and set all lengths anew.
/// </summary>
public sealed class ChannelGroup
{
    private readonly ChannelGroups all;

    internal ChannelGroup(ChannelGroups all, IndexSet leaf) => (this.all, Leaf) = (all, leaf);

    /// <summary>How many units.</summary>
    public int Units => checked((int)Leaf.Size.Value!.Value);

    /// <summary>Why no unit can be removed, or null where any can.</summary>
    public string? Reason => Leaf.Reason;

    /// <summary>The constants that hold the units, each axis once.</summary>
    public IReadOnlyList<ChannelMember> Members => members;

    /// <summary>The nodes that take those constants.</summary>
    public IReadOnlyList<ChannelUse> Uses => uses;

    /// <summary>Numbers of the graph that change when units are removed.</summary>
    public IReadOnlyList<ChannelLength> Lengths => lengths;

    /// <summary>The values computed in between that hold the units.</summary>
    public IReadOnlyList<ValueAxis> Values => all.ValuesOf(this);

    /// <summary>Whether a unit whose producers, biases and consumers are zero adds nothing: that of every group without a reason.</summary>
    public bool CanShrink => Reason is null && Units > 1;

    internal IndexSet Leaf { get; }

    private readonly List<ChannelMember> members = [];
    private readonly List<ChannelUse> uses = [];
    private readonly List<ChannelLength> lengths = [];

    internal void Add(ChannelMember member) => members.Add(member);

    internal void Add(ChannelUse use) => uses.Add(use);

    internal void Add(ChannelLength length) => lengths.Add(length);
}

/// <summary>An axis of a constant that holds the units of a group.</summary>
public sealed class ChannelMember
{
    private readonly List<IndexPattern> patterns = [];

    internal ChannelMember(GraphScope scope, string name, TensorProto tensor, int axis, ChannelRole role) =>
        (Scope, Name, Tensor, Axis, Role) = (scope, name, tensor, axis, role);

    /// <summary>The scope that holds the constant.</summary>
    public GraphScope Scope { get; }

    /// <summary>Its name there.</summary>
    public string Name { get; }

    /// <summary>The initializer, or the tensor of a Constant node.</summary>
    public TensorProto Tensor { get; }

    /// <summary>The axis.</summary>
    public int Axis { get; }

    /// <summary>What its slices are to the group.</summary>
    public ChannelRole Role { get; }

    /// <summary>How many indices of the axis a unit has: 1 of most, the length of a head of attention's weights.</summary>
    public long Span => patterns.Sum(p => p.Steps.Aggregate(1L, (n, s) => n * s.Count));

    /// <summary>The indices of a unit along the axis.</summary>
    public IEnumerable<long> Indices(int unit) => patterns.SelectMany(p => p.Indices(unit)).Distinct().Order();

    internal void Add(IndexPattern pattern) => patterns.Add(pattern);
}

/// <summary>A node that takes a constant of a group, or what was computed from constants alone.</summary>
/// <param name="Scope">The scope of the node.</param>
/// <param name="Node">The node.</param>
/// <param name="Input">The input.</param>
/// <param name="Axis">The axis of the input that holds units.</param>
/// <param name="Role">What for.</param>
public sealed record ChannelUse(GraphScope Scope, NodeProto Node, int Input, int Axis, ChannelRole Role);
