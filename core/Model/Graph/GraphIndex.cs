using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>Who makes and who takes each value of a scope, and its constants: found once instead of by a search a question.</summary>
public sealed class GraphIndex
{
    private readonly ILookup<string, Consumer> consumers;
    private readonly Dictionary<string, NodeProto> producers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TensorProto> constants = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TensorProto> initializers = new(StringComparer.Ordinal);
    private readonly HashSet<string> outputs;

    /// <summary>Indexes a scope as it is.</summary>
    internal GraphIndex(GraphScope scope)
    {
        consumers = scope
            .All()
            .SelectMany(s => s.Nodes.Select(n => new Consumer(n, s == scope)))
            .SelectMany(c =>
                c.Node.Input.Concat(GraphScope.Captures(c.Node)).Where(i => i.Length > 0).Distinct().Select(i => (Value: i, Consumer: c))
            )
            .ToLookup(u => u.Value, u => u.Consumer, StringComparer.Ordinal);
        foreach (var n in scope.Nodes)
        {
            foreach (var o in n.Output)
                if (o.Length > 0)
                    producers.TryAdd(o, n);
            if (n is { OpType: "Constant", Output.Count: > 0, Attribute.Count: > 0 } && n.Attribute[0].T is { } t)
                constants.TryAdd(n.Output[0], t);
        }
        foreach (var t in scope.Constants.Reverse())
            constants[t.Name] = initializers[t.Name] = t;
        outputs = scope.Graph?.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal) ?? [];
    }

    /// <summary>Nodes of the scope and those inside it that take a value, once each, outermost scopes first.</summary>
    public IEnumerable<NodeProto> Consumers(string value) => consumers[value].Select(c => c.Node);

    /// <summary>Nodes of the scope alone that take a value, or that hold a subgraph which does, once each.</summary>
    public IEnumerable<NodeProto> OwnConsumers(string value) => consumers[value].Where(c => c.Own).Select(c => c.Node);

    /// <summary>The node of the scope that alone takes a value, once; null where others do, or the graph puts it out.</summary>
    public NodeProto? OnlyConsumer(string value)
    {
        if (IsOutput(value))
            return null;
        NodeProto? only = null;
        foreach (var (node, own) in consumers[value])
        {
            if (only is not null || !own)
                return null;
            only = node;
        }
        return only?.Input.Count(i => i == value) == 1 ? only : null;
    }

    /// <summary>The node of the scope that makes a value, or null.</summary>
    public NodeProto? Producer(string value) => producers.GetValueOrDefault(value);

    /// <summary>The initializer, or tensor of a Constant node, of that name; null when there is none.</summary>
    public TensorProto? Constant(string name) => constants.GetValueOrDefault(name);

    /// <summary>The initializer of that name that no caller may override; null when there is none.</summary>
    public TensorProto? Initializer(string name) => initializers.GetValueOrDefault(name);

    /// <summary>Whether a value is an output of the scope's graph.</summary>
    public bool IsOutput(string value) => outputs.Contains(value);

    private readonly record struct Consumer(NodeProto Node, bool Own);
}
