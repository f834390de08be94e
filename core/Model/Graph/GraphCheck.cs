using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>The rules of a graph that everything else here relies on: one definition a name, no dangling use, no cycle.</summary>
public static class GraphCheck
{
    /// <summary>Checks all scopes of a model (ONNX IR, "Graphs" and "Names Within a Graph").</summary>
    /// <param name="path">The model, for errors.</param>
    /// <param name="model">The model.</param>
    /// <param name="cancellation">Cancels the check.</param>
    /// <exception cref="BadInputException">A rule is broken; says where.</exception>
    public static void Check(string path, ModelProto model, CancellationToken cancellation)
    {
        var functions = model.Functions.Select(f => (f.Domain, f.Name)).ToHashSet();
        foreach (var scope in GraphScope.Of(model).SelectMany(r => r.All()))
        {
            cancellation.ThrowIfCancellationRequested();
            var where = scope.Path.Length == 0 ? "the graph" : $"'{scope.Path}'";
            CheckDefinitions(path, where, scope, cancellation);
            CheckUses(path, where, scope, cancellation);
            OperatorArity.Check(path, where, scope.Nodes, functions);
            if (TopologicalOrder(scope.Nodes) is null)
                throw new BadInputException($"{path}: {where} has a cycle; a model to run must be acyclic: export it again.");
        }
    }

    /// <summary>
    /// Indices of nodes such that each comes after those it depends on, keeping the given order where it can; null on a cycle.
    /// </summary>
    public static int[]? TopologicalOrder(IReadOnlyList<NodeProto> nodes)
    {
        var producer = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i < nodes.Count; i++)
            foreach (var o in nodes[i].Output)
                if (o.Length > 0)
                    producer[o] = i;
        var waiting = new int[nodes.Count];
        var dependents = new List<int>?[nodes.Count];
        for (var i = 0; i < nodes.Count; i++)
        {
            foreach (var name in nodes[i].Input.Concat(GraphScope.Captures(nodes[i])).Distinct())
            {
                if (name.Length == 0 || !producer.TryGetValue(name, out var p))
                    continue;
                waiting[i]++;
                (dependents[p] ??= []).Add(i);
            }
        }
        var ready = new PriorityQueue<int, int>();
        for (var i = 0; i < nodes.Count; i++)
            if (waiting[i] == 0)
                ready.Enqueue(i, i);
        var order = new List<int>(nodes.Count);
        while (ready.TryDequeue(out var i, out _))
        {
            order.Add(i);
            foreach (var d in dependents[i] ?? [])
                if (--waiting[d] == 0)
                    ready.Enqueue(d, d);
        }
        return order.Count == nodes.Count ? [.. order] : null;
    }

    private static void CheckDefinitions(string path, string where, GraphScope scope, CancellationToken cancellation)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var t in scope.Graph?.Initializer ?? [])
        {
            if (t.Name.Length == 0)
                throw new BadInputException($"{path}: {where} has an initializer without a name; export the model again.");
            if (!seen.Add(t.Name))
                throw new BadInputException($"{path}: {where} has two initializers named '{t.Name}'; export the model again.");
        }
        var initializers = seen.ToHashSet(StringComparer.Ordinal);
        foreach (var v in scope.Graph?.Input ?? [])
            if (!seen.Add(v.Name) && !initializers.Contains(v.Name))
                throw new BadInputException($"{path}: {where} has two inputs named '{v.Name}'; export the model again.");
        foreach (var n in scope.Nodes)
        {
            cancellation.ThrowIfCancellationRequested();
            foreach (var o in n.Output)
                if (o.Length > 0 && !seen.Add(o))
                    throw new BadInputException($"{path}: {where} defines '{o}' twice; export the model again.");
        }
    }

    private static void CheckUses(string path, string where, GraphScope scope, CancellationToken cancellation)
    {
        foreach (var n in scope.Nodes)
        {
            cancellation.ThrowIfCancellationRequested();
            foreach (var i in n.Input)
                if (i.Length > 0 && scope.Resolve(i) is null)
                    throw new BadInputException(
                        $"{path}: {n.OpType} in {where} uses '{i}', which nothing defines; export the model again."
                    );
        }
        foreach (var o in scope.Graph?.Output ?? [])
            if (scope.Resolve(o.Name) is null)
                throw new BadInputException($"{path}: {where} has the output '{o.Name}', which nothing defines; export the model again.");
    }
}
