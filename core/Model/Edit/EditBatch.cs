using Google.Protobuf.Collections;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Many edits of some scopes: nodes are kept in linked lists and removals noted, and all is written to the graphs when a
/// scope's nodes are read or the batch is disposed. Before that a graph itself may not be read. Without a batch, each edit
/// costs a pass over its graph.
/// </summary>
internal sealed class EditBatch : IDisposable
{
    private readonly List<GraphScope> scopes;

    /// <summary>Begins a batch.</summary>
    /// <param name="roots">Scopes that edits will name, those inside them included; two of one graph see each other's edits.</param>
    public EditBatch(IEnumerable<GraphScope> roots)
    {
        scopes = [.. roots.SelectMany(r => r.All()).Distinct()];
        var edits = new Dictionary<object, GraphEdits>(ReferenceEqualityComparer.Instance);
        foreach (var scope in scopes)
        {
            object graph = scope.Graph is { } g ? g : scope.Function!;
            if (!edits.TryGetValue(graph, out var shared))
                edits[graph] = shared = new GraphEdits(scope.Nodes, scope.Graph?.Initializer);
            scope.Begin(shared);
        }
    }

    /// <summary>Writes what is left.</summary>
    public void Dispose()
    {
        foreach (var scope in scopes)
            scope.End();
    }
}

/// <summary>Edits of a graph that are not written to it yet.</summary>
internal sealed class GraphEdits(RepeatedField<NodeProto> nodes, RepeatedField<TensorProto>? initializers)
{
    private readonly HashSet<TensorProto> removed = new(ReferenceEqualityComparer.Instance);
    private NodeList? list;

    /// <summary>The nodes with the edits.</summary>
    public NodeList Nodes => list ??= new NodeList(nodes);

    /// <summary>Removes an initializer.</summary>
    public void Remove(TensorProto tensor) => removed.Add(tensor);

    /// <summary>Writes the edits to the graph.</summary>
    public void Commit()
    {
        list?.Commit();
        list = null;
        if (removed.Count == 0)
            return;
        var kept = initializers!.Where(t => !removed.Contains(t)).ToList();
        initializers!.Clear();
        initializers.AddRange(kept);
        removed.Clear();
    }
}
