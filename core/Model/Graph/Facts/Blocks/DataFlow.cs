using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// The nodes of a graph in topological order, and which values hold data: those that depend on inputs by more than lengths.
/// </summary>
internal sealed class DataFlow
{
    private readonly GraphIndex index;
    private readonly HashSet<string> data = new(StringComparer.Ordinal);
    private readonly Dictionary<NodeProto, int> places = new(ReferenceEqualityComparer.Instance);

    /// <summary>Of the main graph.</summary>
    public DataFlow(GraphScope scope)
    {
        index = scope.Index;
        var nodes = scope.Nodes;
        Nodes = [.. (GraphCheck.TopologicalOrder(nodes) ?? []).Select(i => nodes[i])];
        var constants = scope.Graph!.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        Inputs = [.. scope.Graph.Input.Select(v => v.Name).Where(n => !constants.Contains(n))];
        data.UnionWith(scope.Graph.Input.Select(v => v.Name));
        for (var i = 0; i < Nodes.Count; i++)
        {
            places[Nodes[i]] = i;
            if (!ReadsLengths(Nodes[i]) && (OperatorKinds.IsRandom(Nodes[i]) || Taken(Nodes[i]).Any(data.Contains)))
                data.UnionWith(Nodes[i].Output.Where(o => o.Length > 0));
        }
    }

    /// <summary>The nodes in topological order.</summary>
    public IReadOnlyList<NodeProto> Nodes { get; }

    /// <summary>Inputs of the graph that a caller gives.</summary>
    public IReadOnlyList<string> Inputs { get; }

    /// <summary>Place of a node in the order.</summary>
    public int Place(NodeProto node) => places[node];

    /// <summary>Whether a value holds data; else it is the same in every run, or follows from lengths.</summary>
    public bool IsData(string value) => data.Contains(value);

    /// <summary>The nodes that take the data of a value, and not its lengths alone.</summary>
    public IEnumerable<NodeProto> Takers(string value) => index.OwnConsumers(value).Where(n => !ReadsLengths(n));

    /// <summary>Outputs of a node that something takes or the graph puts out.</summary>
    public IEnumerable<string> Live(NodeProto node) =>
        node.Output.Where(o => o.Length > 0 && (index.IsOutput(o) || index.OwnConsumers(o).Any()));

    /// <summary>Values that a node takes, those inside its subgraphs included.</summary>
    public static IEnumerable<string> Taken(NodeProto node) => node.Input.Where(i => i.Length > 0).Concat(GraphScope.Captures(node));

    /// <summary>Whether a node reads of its input the lengths alone.</summary>
    public static bool ReadsLengths(NodeProto node) => node.Operator() is "Shape" or "Size";
}
