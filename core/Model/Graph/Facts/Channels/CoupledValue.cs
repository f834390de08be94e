using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>A value with the indices of its axes.</summary>
/// <param name="axes">The indices.</param>
/// <param name="zero">Where it is zero.</param>
/// <param name="sources">The constants.</param>
internal sealed class CoupledValue(IReadOnlyList<IndexSet>? axes, IReadOnlyList<bool> zero, IReadOnlyList<CoupledConstant>? sources)
{
    /// <summary>The indices; null when its rank is not known.</summary>
    public IReadOnlyList<IndexSet>? Axes => axes;

    /// <summary>For each axis, whether the value is zero at every unit of it that is zero in the constants that make it.</summary>
    public IReadOnlyList<bool> Zero => zero;

    /// <summary>The constants that it is computed from, where it is from nothing else.</summary>
    public IReadOnlyList<CoupledConstant>? Sources => sources;
}

/// <summary>A stored constant.</summary>
/// <param name="scope">The scope that holds it.</param>
/// <param name="name">Its name there.</param>
/// <param name="tensor">The tensor.</param>
/// <param name="axes">The indices of its axes.</param>
internal sealed class CoupledConstant(GraphScope scope, string name, TensorProto tensor, IReadOnlyList<IndexSet> axes)
{
    /// <summary>The scope that holds it.</summary>
    public GraphScope Scope => scope;

    /// <summary>Its name there.</summary>
    public string Name => name;

    /// <summary>The tensor.</summary>
    public TensorProto Tensor => tensor;

    /// <summary>The indices of its axes.</summary>
    public IReadOnlyList<IndexSet> Axes => axes;
}

/// <summary>A node that takes a constant.</summary>
/// <param name="Scope">The scope of the node.</param>
/// <param name="Node">The node.</param>
/// <param name="Input">The input.</param>
/// <param name="Value">The constant, or what was computed from constants.</param>
/// <param name="Axis">Its axis.</param>
/// <param name="Role">What for.</param>
internal sealed record ConstantUse(GraphScope Scope, NodeProto Node, int Input, CoupledValue Value, int Axis, ChannelRole Role);

/// <summary>A number of the graph that is the length of a set of indices.</summary>
/// <param name="Scope">The scope of the node.</param>
/// <param name="Node">The node that takes it.</param>
/// <param name="Attribute">The attribute that holds it; null where an input does.</param>
/// <param name="Input">The input; −1 where an attribute does.</param>
/// <param name="Element">Which element.</param>
/// <param name="Set">The indices.</param>
/// <param name="From">Axes whose lengths the number is computed from.</param>
internal sealed record LengthUse(
    GraphScope Scope,
    NodeProto Node,
    string? Attribute,
    int Input,
    int Element,
    IndexSet Set,
    IReadOnlyList<IndexSet> From
);
