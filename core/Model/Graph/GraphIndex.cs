using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>Who makes and who takes each value of a scope, and its constants: found once instead of by a search a question.</summary>
public sealed class GraphIndex
{
    private readonly ILookup<string, NodeProto> consumers;
    private readonly Dictionary<string, NodeProto> producers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TensorProto> constants = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TensorProto> initializers = new(StringComparer.Ordinal);
    private readonly HashSet<string> outputs;

    /// <summary>Indexes a scope as it is.</summary>
    internal GraphIndex(GraphScope scope)
    {
        consumers = scope
            .All()
            .SelectMany(s => s.Nodes)
            .SelectMany(n => n.Input.Concat(GraphScope.Captures(n)).Where(i => i.Length > 0).Distinct().Select(i => (Value: i, Node: n)))
            .ToLookup(u => u.Value, u => u.Node, StringComparer.Ordinal);
        foreach (var n in scope.Nodes)
        {
            foreach (var o in n.Output)
                producers.TryAdd(o, n);
            if (n is { OpType: "Constant", Output.Count: > 0, Attribute.Count: > 0 } && n.Attribute[0].T is { } t)
                constants.TryAdd(n.Output[0], t);
        }
        foreach (var t in scope.Constants.Reverse())
            constants[t.Name] = initializers[t.Name] = t;
        outputs = scope.Graph?.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal) ?? [];
    }

    /// <summary>Nodes of the scope and those inside it that take a value, once each, outermost scopes first.</summary>
    public IEnumerable<NodeProto> Consumers(string value) => consumers[value];

    /// <summary>The node of the scope that makes a value, or null.</summary>
    public NodeProto? Producer(string value) => producers.GetValueOrDefault(value);

    /// <summary>The initializer, or tensor of a Constant node, of that name; null when there is none.</summary>
    public TensorProto? Constant(string name) => constants.GetValueOrDefault(name);

    /// <summary>The initializer of that name that no caller may override; null when there is none.</summary>
    public TensorProto? Initializer(string name) => initializers.GetValueOrDefault(name);

    /// <summary>Whether a value is an output of the scope's graph.</summary>
    public bool IsOutput(string value) => outputs.Contains(value);
}
