using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// A number of the graph that is the length of an axis, or of the part of it before an index: it changes when units are removed.
/// </summary>
public sealed class ChannelLength
{
    private readonly ChannelGroups groups;
    private readonly IndexSet set;

    internal ChannelLength(ChannelGroups groups, LengthUse use) =>
        (this.groups, set, Scope, Node, Attribute, Input, Element) = (
            groups,
            use.Set,
            use.Scope,
            use.Node,
            use.Attribute,
            use.Input,
            use.Element
        );

    /// <summary>The scope of the node.</summary>
    public GraphScope Scope { get; }

    /// <summary>The node that takes the number.</summary>
    public NodeProto Node { get; }

    /// <summary>
    /// The attribute that holds it; null where an input does. A Split without lengths cuts evenly, and has to be told them.
    /// </summary>
    public string? Attribute { get; }

    /// <summary>The input that holds it; −1 where an attribute does.</summary>
    public int Input { get; }

    /// <summary>Which element of the attribute or input.</summary>
    public int Element { get; }

    /// <summary>What it is now.</summary>
    public long Now => Of(_ => 0);

    /// <summary>What it is when some units of each group are removed.</summary>
    /// <param name="removed">How many units of a group.</param>
    public long Of(Func<ChannelGroup, int> removed) => groups.Length(set, removed);
}
