using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Turns Constant nodes into initializers, keeps one of several equal small constants of a scope, and drops
/// documentation, inferred value types and unused constants. Changes no value that the model computes.
/// </summary>
public static class ConstantMerging
{
    /// <summary>Tidies every graph of the model; functions are left as they are.</summary>
    /// <param name="edit">The edit.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static void Apply(ModelEdit edit, CancellationToken cancellation = default)
    {
        foreach (var scope in edit.Roots[0].All())
        {
            cancellation.ThrowIfCancellationRequested();
            LiftConstants(scope);
            Merge(scope, Equal(scope));
            DropDocumentation(scope);
        }
        edit.Model.ClearDocString();
        edit.DropDead(cancellation);
    }

    /// <summary>
    /// Keeps one of several weights that are the same bytes of a file and that operators of the same kind take, so that they
    /// are compressed and stored once. Constants must be initializers.
    /// </summary>
    /// <param name="edit">The edit.</param>
    public static void MergeShared(ModelEdit edit)
    {
        foreach (var scope in edit.Roots[0].All())
            Merge(scope, SharedBytes.Of(scope));
    }

    private static void LiftConstants(GraphScope scope)
    {
        var graph = scope.Graph!;
        var kept = new List<NodeProto>(scope.Nodes.Count);
        // A graph output must be produced by a node in some readers; leave such constants.
        var outputs = graph.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        foreach (var node in scope.Nodes)
        {
            if (
                node is { OpType: "Constant", Output.Count: 1, Attribute: [{ Name: "value", T: { } tensor }] }
                && !outputs.Contains(node.Output[0])
            )
            {
                tensor.Name = node.Output[0];
                tensor.ClearDocString();
                graph.Initializer.Add(tensor);
            }
            else
                kept.Add(node);
        }
        if (kept.Count == scope.Nodes.Count)
            return;
        scope.Nodes.Clear();
        scope.Nodes.AddRange(kept);
    }

    // Name → the equal constant that is kept: the last.
    private static Dictionary<string, string> Equal(GraphScope scope)
    {
        var first = new Dictionary<ByteString, string>();
        var replaced = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var tensor in Inner(scope).Where(t => t.DataLocation != TensorProto.Types.DataLocation.External))
        {
            var name = tensor.Name;
            tensor.ClearName();
            var key = tensor.ToByteString();
            tensor.Name = name;
            if (!first.TryAdd(key, name))
                replaced[name] = first[key];
        }
        return replaced;
    }

    /// <summary>Initializers that are neither inputs nor outputs of their graph, from the last to the first.</summary>
    internal static IEnumerable<TensorProto> Inner(GraphScope scope)
    {
        var graph = scope.Graph!;
        var named = graph.Output.Concat(graph.Input).Select(v => v.Name).ToHashSet(StringComparer.Ordinal);
        return graph.Initializer.Reverse().Where(t => !named.Contains(t.Name));
    }

    private static void Merge(GraphScope scope, Dictionary<string, string> replaced)
    {
        if (replaced.Count == 0)
            return;
        var graph = scope.Graph!;
        var kept = graph.Initializer.Where(t => !replaced.ContainsKey(t.Name)).ToList();
        graph.Initializer.Clear();
        graph.Initializer.AddRange(kept);
        // A graph output, or a use where an inner scope hides the name kept, could not move: put its constant back.
        var stay = ModelEdit.Redirect(scope, replaced);
        if (stay.Count == 0)
            return;
        var byName = kept.ToDictionary(t => t.Name, StringComparer.Ordinal);
        foreach (var name in stay.Order(StringComparer.Ordinal))
        {
            var copy = byName[replaced[name]].Clone();
            copy.Name = name;
            graph.Initializer.Add(copy);
        }
    }

    private static void DropDocumentation(GraphScope scope)
    {
        scope.Graph!.ValueInfo.Clear();
        scope.Graph.ClearDocString();
        foreach (var node in scope.Nodes)
            node.ClearDocString();
        foreach (var tensor in scope.Graph.Initializer)
            tensor.ClearDocString();
    }
}
