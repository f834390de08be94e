using Google.Protobuf;
using Serverless.Core.Onnx.Schema;

namespace Serverless.Core.Onnx.Simplification;

/// <summary>
/// Turns Constant nodes into initializers, keeps one of several equal small constants of a scope, and drops
/// documentation, inferred value types and unused constants. Changes no value that the model computes.
/// </summary>
public static class ConstantMerging
{
    /// <summary>Tidies every graph of the model; functions are left as they are.</summary>
    public static void Apply(ModelEdit edit)
    {
        foreach (var scope in edit.Roots[0].All())
        {
            LiftConstants(scope);
            MergeEqual(scope);
            DropDocumentation(scope);
        }
        edit.Model.ClearDocString();
        edit.DropDead();
    }

    private static void LiftConstants(GraphScope scope)
    {
        var graph = scope.Graph!;
        var kept = new List<NodeProto>(scope.Nodes.Count);
        // A graph output must be produced by a node in some readers; leave such constants.
        var outputs = graph.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        foreach (var node in scope.Nodes)
        {
            if (node is { OpType: "Constant", Output.Count: 1, Attribute: [{ Name: "value", T: { } tensor }] } && !outputs.Contains(node.Output[0]))
            {
                tensor.Name = node.Output[0];
                tensor.ClearDocString();
                graph.Initializer.Add(tensor);
            }
            else kept.Add(node);
        }
        if (kept.Count == scope.Nodes.Count) return;
        scope.Nodes.Clear();
        scope.Nodes.AddRange(kept);
    }

    private static void MergeEqual(GraphScope scope)
    {
        var graph = scope.Graph!;
        var named = graph.Output.Concat(graph.Input).Select(v => v.Name).ToHashSet(StringComparer.Ordinal);
        var first = new Dictionary<ByteString, string>();
        var replaced = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = graph.Initializer.Count - 1; i >= 0; i--)
        {
            var tensor = graph.Initializer[i];
            if (tensor.DataLocation == TensorProto.Types.DataLocation.External || named.Contains(tensor.Name)) continue;
            var name = tensor.Name;
            tensor.ClearName();
            var key = tensor.ToByteString();
            tensor.Name = name;
            if (!first.TryAdd(key, name))
            {
                replaced[name] = first[key];
                graph.Initializer.RemoveAt(i);
            }
        }
        if (replaced.Count == 0) return;
        // A graph output, or a use where an inner scope hides the name kept, could not move: put its constant back.
        foreach (var name in ModelEdit.Redirect(scope, replaced).Order(StringComparer.Ordinal))
        {
            var copy = graph.Initializer.First(t => t.Name == replaced[name]).Clone();
            copy.Name = name;
            graph.Initializer.Add(copy);
        }
    }

    private static void DropDocumentation(GraphScope scope)
    {
        scope.Graph!.ValueInfo.Clear();
        scope.Graph.ClearDocString();
        foreach (var node in scope.Nodes) node.ClearDocString();
        foreach (var tensor in scope.Graph.Initializer) tensor.ClearDocString();
    }
}
