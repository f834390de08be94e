using Google.Protobuf.Collections;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// The nodes of a scope while many edits are made: a linked list, written back once, so that an edit costs the same however
/// many nodes there are.
/// </summary>
internal sealed class NodeList
{
    private readonly RepeatedField<NodeProto> nodes;
    private readonly LinkedList<NodeProto> list;
    private readonly Dictionary<NodeProto, LinkedListNode<NodeProto>> places = new(ReferenceEqualityComparer.Instance);
    private readonly int count;
    private LinkedListNode<NodeProto>? firstOther;

    /// <summary>Takes over the nodes until <see cref="Commit"/>.</summary>
    public NodeList(RepeatedField<NodeProto> nodes)
    {
        (this.nodes, list, count) = (nodes, new LinkedList<NodeProto>(nodes), nodes.Count);
        for (var n = list.First; n is not null; n = n.Next)
            places[n.Value] = n;
    }

    /// <summary>Puts nodes, of which one may be the old one, in the place of a node.</summary>
    /// <exception cref="InvalidOperationException">The node is not there.</exception>
    public void Replace(NodeProto old, IReadOnlyList<NodeProto> by)
    {
        var place = Place(old);
        var added = by.Select(n => list.AddBefore(place, n)).ToList();
        if (ReferenceEquals(firstOther, place))
            firstOther = null;
        list.Remove(place);
        places.Remove(old);
        foreach (var n in added)
            places[n.Value] = n;
    }

    /// <summary>Puts nodes before all others, or behind the Constant nodes that come first.</summary>
    public void InsertFirst(IReadOnlyList<NodeProto> more, bool behindConstants)
    {
        if (more.Count == 0)
            return;
        var place = list.First;
        if (behindConstants)
        {
            if (firstOther is null || IsConstant(firstOther))
                for (firstOther = list.First; firstOther is not null && IsConstant(firstOther); firstOther = firstOther.Next) { }
            place = firstOther;
        }
        foreach (var n in more)
            places[n] = place is null ? list.AddLast(n) : list.AddBefore(place, n);
        if (behindConstants)
            firstOther = places[more[0]];

        static bool IsConstant(LinkedListNode<NodeProto> n) => n.Value.OpType == "Constant";
    }

    /// <summary>Puts nodes behind one, or before all others when it is null.</summary>
    public void InsertAfter(NodeProto? node, IReadOnlyList<NodeProto> more)
    {
        var place = node is null ? null : Place(node);
        foreach (var n in more)
            places[n] = place = place is null ? list.AddFirst(n) : list.AddAfter(place, n);
    }

    /// <summary>Writes the nodes back.</summary>
    /// <exception cref="InvalidOperationException">They were changed elsewhere meanwhile.</exception>
    public void Commit()
    {
        if (nodes.Count != count)
            throw new InvalidOperationException("The nodes of a graph were edited in two ways at a time.");
        nodes.Clear();
        nodes.AddRange(list);
    }

    private LinkedListNode<NodeProto> Place(NodeProto node) =>
        places.GetValueOrDefault(node) ?? throw new InvalidOperationException($"The {node.OpType} node is not in the scope.");
}
