using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>Nodes that compute from constants alone, with what the rest of the graph takes from them.</summary>
/// <param name="Scope">Where they are.</param>
/// <param name="Nodes">In topological order.</param>
/// <param name="Constants">Initializers that they take.</param>
/// <param name="Results">Values that others take.</param>
/// <param name="Freed">Bytes of the initializers that nothing else takes.</param>
public sealed record ConstantExpression(
    GraphScope Scope,
    IReadOnlyList<NodeProto> Nodes,
    IReadOnlyList<TensorProto> Constants,
    IReadOnlyList<string> Results,
    long Freed
)
{
    // Smaller results may take more bytes than what they are computed from.
    private const long Slack = 1024;

    /// <summary>Whether results of so many bytes are to stand for the expression.</summary>
    public bool Pays(long bytes) => bytes <= Freed + Slack;

    /// <summary>
    /// The name that the only result takes: that of the largest initializer that goes with the expression, by which recipes
    /// know the weight; null where there are several results, or none goes.
    /// </summary>
    public string? Named { get; init; }
}

/// <summary>An expression that was computed once.</summary>
/// <param name="Name">The constant that stands for it.</param>
/// <param name="Operators">Its operators, in the order of the graph.</param>
/// <param name="Type">Element type of the constant, as ONNX spells it.</param>
/// <param name="BytesBefore">Bytes of the initializers that went with it.</param>
/// <param name="BytesAfter">Bytes of the constant.</param>
public sealed record FoldedExpression(string Name, IReadOnlyList<string> Operators, string Type, long BytesBefore, long BytesAfter);

/// <summary>
/// Finds what ONNX Runtime folds at load and techniques would not see as a weight: weight normalization, LoRA products, fake quantization,
/// layouts. DequantizeLinear and casts to wider floats are left: before them lies what is stored.
/// </summary>
public static class ConstantExpressions
{
    private const long SmallestSource = 1024,
        LargestSource = 512L << 20;

    private static readonly HashSet<string> Never =
    [
        "Constant",
        "ConstantOfShape",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "EyeLike",
        "Range",
        "Expand",
        "Tile",
        "Dropout",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceAt",
        "SequenceInsert",
        "SequenceErase",
        "SequenceLength",
        "SplitToSequence",
        "ConcatFromSequence",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "StringConcat",
        "StringSplit",
        "RegexFullMatch",
    ];

    /// <summary>The expressions over weights; constants must be initializers.</summary>
    /// <param name="main">The scope of the main graph.</param>
    /// <param name="cancellation">Cancels the search.</param>
    public static IReadOnlyList<ConstantExpression> Find(GraphScope main, CancellationToken cancellation)
    {
        var found = new List<ConstantExpression>();
        foreach (var scope in main.All())
        {
            cancellation.ThrowIfCancellationRequested();
            found.AddRange(In(scope));
        }
        return found;
    }

    private static IEnumerable<ConstantExpression> In(GraphScope scope)
    {
        var visible = new Dictionary<string, TensorProto>(StringComparer.Ordinal);
        for (var s = scope; s is not null; s = s.Parent)
            foreach (var t in s.Constants)
                if (scope.Resolve(t.Name) == s)
                    visible.TryAdd(t.Name, t);
        var order = GraphCheck.TopologicalOrder(scope.Nodes)!;
        var made = new Dictionary<string, Group>(StringComparer.Ordinal);
        var sharing = new Dictionary<string, Group>(StringComparer.Ordinal);
        foreach (var node in order.Select(i => scope.Nodes[i]))
        {
            if (node.Domain is not ("" or "ai.onnx") || Never.Contains(node.OpType) || OperatorKinds.IsRandom(node))
                continue;
            if (WideningCasts.Is(node, IsHalf) || GraphScope.Subgraphs(node).Any())
                continue;
            var inputs = node.Input.Where(i => i.Length > 0).ToList();
            if (inputs.Count == 0 || !inputs.All(i => made.ContainsKey(i) || visible.ContainsKey(i)))
                continue;
            // Expressions that share a weight are one; a shape or an epsilon does not join them.
            var weights = inputs.Where(i => visible.ContainsKey(i) && TensorRef.From(visible[i], i).Length >= SmallestSource).ToList();
            var related = inputs.Select(i => made.GetValueOrDefault(i)).Concat(weights.Select(w => sharing.GetValueOrDefault(w)));
            var group = Group.Join(related.OfType<Group>());
            group.Nodes.Add(node);
            group.Constants.UnionWith(inputs.Where(i => !made.ContainsKey(i)));
            foreach (var w in weights)
                sharing[w] = group;
            foreach (var o in node.Output.Where(o => o.Length > 0))
                made[o] = group;
        }
        var place = order
            .Select((n, i) => (Node: (object)scope.Nodes[n], i))
            .ToDictionary(p => p.Node, p => p.i, ReferenceEqualityComparer.Instance);
        foreach (var group in made.Values.Select(g => g.Root).Distinct())
            if (Expression(scope, group, visible, place) is { } expression)
                yield return expression;

        bool IsHalf(string name) =>
            made.TryGetValue(name, out var group)
                ? group
                    .Root.Constants.Where(c => TensorRef.From(visible[c], c).Length >= SmallestSource)
                    .All(c => WideningCasts.IsHalf(visible[c]))
                : visible.TryGetValue(name, out var tensor) && WideningCasts.IsHalf(tensor);
    }

    private static ConstantExpression? Expression(
        GraphScope scope,
        Group group,
        Dictionary<string, TensorProto> visible,
        Dictionary<object, int> place
    )
    {
        var nodes = group.Nodes.OrderBy(n => place[n]).ToList();
        var mine = nodes.ToHashSet<object>(ReferenceEqualityComparer.Instance);
        var results = nodes
            .SelectMany(n => n.Output)
            .Where(o => o.Length > 0 && (scope.Index.IsOutput(o) || scope.Index.Consumers(o).Any(u => !mine.Contains(u))))
            .ToList();
        // An output of the graph has to be made by a node.
        if (results.Count == 0 || results.Any(scope.Index.IsOutput))
            return null;
        var sources = group.Constants.Select(n => (Name: n, Bytes: TensorRef.From(visible[n], n).Length)).ToList();
        if (sources.Sum(s => s.Bytes) > LargestSource)
            return null;
        if (!sources.Any(s => s.Bytes >= SmallestSource && DataTypes.IsWeightType(visible[s.Name].DataType)))
            return null;
        var freed = sources
            .Where(s => scope.Defines(s.Name) && !scope.Index.IsOutput(s.Name) && scope.Index.Consumers(s.Name).All(mine.Contains))
            .ToList();
        return new ConstantExpression(scope, nodes, [.. group.Constants.Select(n => visible[n])], results, freed.Sum(s => s.Bytes))
        {
            Named = results.Count == 1 && freed.Count > 0 ? freed.MaxBy(s => s.Bytes).Name : null,
        };
    }

    // Sets of nodes that are joined where they share something (Galler and Fischer 1964).
    private sealed class Group
    {
        private Group? parent;

        public List<NodeProto> Nodes { get; } = [];

        public HashSet<string> Constants { get; } = new(StringComparer.Ordinal);

        public Group Root => parent is null ? this : parent = parent.Root;

        public static Group Join(IEnumerable<Group> groups)
        {
            var all = groups.Select(g => g.Root).Distinct().OrderByDescending(g => g.Nodes.Count).ToList();
            if (all.Count == 0)
                return new Group();
            foreach (var other in all.Skip(1))
            {
                all[0].Nodes.AddRange(other.Nodes);
                all[0].Constants.UnionWith(other.Constants);
                other.parent = all[0];
            }
            return all[0];
        }
    }
}
