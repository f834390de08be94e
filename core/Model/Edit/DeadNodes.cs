using Google.Protobuf.Collections;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Drops nodes and initializers of a graph and its subgraphs that nothing uses, and what only those used: each name's uses
/// are counted once, and a node that goes takes its own off. Nodes with subgraphs, and nodes without outputs, stay.
/// </summary>
internal sealed class DeadNodes
{
    private readonly Dictionary<(GraphScope, string), int> uses = [];
    private readonly Dictionary<(GraphScope, string), List<NodeProto>> producers = [];
    private readonly Dictionary<NodeProto, GraphScope> scopeOf = new(ReferenceEqualityComparer.Instance);

    /// <summary>Drops them.</summary>
    /// <param name="main">The scope of the main graph.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static void Drop(GraphScope main, CancellationToken cancellation)
    {
        var dead = new DeadNodes();
        var scopes = main.All().ToList();
        foreach (var scope in scopes)
            dead.Count(scope, cancellation);
        var dropped = dead.Find(cancellation);
        foreach (var scope in scopes)
        {
            Keep(scope.Graph!.Initializer, t => dead.uses.ContainsKey((scope, t.Name)));
            if (dropped.Count > 0)
                Keep(scope.Nodes, n => !dropped.Contains(n));
        }
    }

    private void Count(GraphScope scope, CancellationToken cancellation)
    {
        foreach (var node in scope.Nodes)
        {
            cancellation.ThrowIfCancellationRequested();
            foreach (var name in node.Input)
                Use(scope, name);
            if (node.Output.Count == 0 || GraphScope.Subgraphs(node).Any())
                continue;
            scopeOf[node] = scope;
            foreach (var o in node.Output)
            {
                if (!producers.TryGetValue((scope, o), out var list))
                    producers[(scope, o)] = list = [];
                list.Add(node);
            }
        }
        foreach (var o in scope.Graph!.Output)
            Use(scope, o.Name);
        foreach (var v in scope.Graph.Input)
            Use(scope, v.Name);
    }

    private void Use(GraphScope scope, string name)
    {
        if (scope.Resolve(name) is { } home)
            uses[(home, name)] = uses.GetValueOrDefault((home, name)) + 1;
    }

    private HashSet<NodeProto> Find(CancellationToken cancellation)
    {
        var dropped = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        var open = new Stack<NodeProto>(scopeOf.Keys);
        while (open.TryPop(out var node))
        {
            cancellation.ThrowIfCancellationRequested();
            var scope = scopeOf[node];
            if (node.Output.Any(o => uses.ContainsKey((scope, o))) || !dropped.Add(node))
                continue;
            foreach (var name in node.Input)
            {
                if (scope.Resolve(name) is not { } home || --uses[(home, name)] > 0)
                    continue;
                uses.Remove((home, name));
                foreach (var producer in producers.GetValueOrDefault((home, name)) ?? [])
                    open.Push(producer);
            }
        }
        return dropped;
    }

    private static void Keep<T>(RepeatedField<T> field, Func<T, bool> wanted)
    {
        var kept = field.Where(wanted).ToList();
        if (kept.Count == field.Count)
            return;
        field.Clear();
        field.AddRange(kept);
    }
}
