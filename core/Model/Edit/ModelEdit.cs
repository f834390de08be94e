using Google.Protobuf;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// The vocabulary of changes to a graph: replace a node, add an initializer, put nodes first, redirect a use, remove
/// a weight's definition, drop what became dead. Names it makes collide with no name of any scope.
/// </summary>
public sealed class ModelEdit
{
    private readonly HashSet<string> names = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> shared = new(StringComparer.Ordinal);
    private HashSet<string>? nodeNames;
    private int counter;

    /// <summary>Starts an edit of <paramref name="model"/>, which is changed in place.</summary>
    public ModelEdit(ModelProto model)
    {
        Model = model;
        Roots = GraphScope.Of(model);
        foreach (var scope in Roots.SelectMany(r => r.All()))
        {
            foreach (var v in scope.Graph?.Input ?? [])
                names.Add(v.Name);
            foreach (var v in scope.Function?.Input ?? [])
                names.Add(v);
            foreach (var t in scope.Graph?.Initializer ?? [])
                names.Add(t.Name);
            foreach (var s in scope.Graph?.SparseInitializer ?? [])
                names.Add(s.Values?.Name ?? "");
            foreach (var n in scope.Nodes)
            {
                foreach (var i in n.Input)
                    names.Add(i);
                foreach (var o in n.Output)
                    names.Add(o);
            }
        }
        RaiseIrVersion();
    }

    /// <summary>The model.</summary>
    public ModelProto Model { get; }

    /// <summary>The main graph's scope, then those of functions.</summary>
    public IReadOnlyList<GraphScope> Roots { get; }

    /// <summary>Imports a domain into the model, unless it is there.</summary>
    public void Import(string domain, long version)
    {
        if (!Model.OpsetImport.Any(o => o.Domain == domain))
            Model.OpsetImport.Add(new OperatorSetIdProto { Domain = domain, Version = version });
    }

    /// <summary>A name like <paramref name="hint"/> that nothing uses yet.</summary>
    public string FreshName(string hint) => Fresh(names, hint);

    /// <summary>A node name like <paramref name="hint"/> that no node has yet.</summary>
    public string FreshNodeName(string hint)
    {
        nodeNames ??= [.. Roots.SelectMany(r => r.All()).SelectMany(s => s.Nodes).Select(n => n.Name)];
        return Fresh(nodeNames, hint);
    }

    private string Fresh(HashSet<string> taken, string hint)
    {
        var name = hint;
        while (!taken.Add(name))
            name = $"{hint}_{++counter}";
        return name;
    }

    /// <summary>Adds a constant to a scope under a fresh name: an initializer, or a Constant node in a function.</summary>
    public string AddConstant(GraphScope scope, string hint, TensorProto tensor)
    {
        var name = FreshName(hint);
        if (scope.Graph is { } graph)
        {
            tensor.Name = name;
            graph.Initializer.Add(tensor);
        }
        else
        {
            var node = Node("Constant", [], [name], Attribute("value", tensor));
            scope.Edit(l => l.InsertAfter(null, [node]));
        }
        scope.Define(name);
        return name;
    }

    /// <summary>
    /// A small constant that many places share: made once in the outermost scope that <paramref name="scope"/> sees.
    /// </summary>
    public string Share(GraphScope scope, string hint, TensorProto tensor)
    {
        var root = Outermost(scope);
        var key = $"{root.Path}|{Convert.ToBase64String(tensor.ToByteArray())}";
        if (!shared.TryGetValue(key, out var name))
            shared[key] = name = AddConstant(root, hint, tensor);
        return name;
    }

    /// <summary>A one-dimensional INT64 constant, shared.</summary>
    public string Int64s(GraphScope scope, params long[] values)
    {
        var tensor = new TensorProto { DataType = (int)DataType.Int64 };
        tensor.Dims.Add(values.Length);
        tensor.Int64Data.AddRange(values);
        return Share(scope, "shape", tensor);
    }

    /// <summary>The scope at the root of <paramref name="scope"/>.</summary>
    public static GraphScope Outermost(GraphScope scope)
    {
        while (scope.Parent is not null)
            scope = scope.Parent;
        return scope;
    }

    /// <summary>Puts nodes before all others of a scope, in the order given.</summary>
    public static void InsertFirst(GraphScope scope, IReadOnlyList<NodeProto> nodes)
    {
        // Constants of a function are nodes too and have to stay in front of what uses them.
        scope.Edit(l => l.InsertFirst(nodes, behindConstants: scope.Graph is null));
        Define(scope, nodes);
    }

    /// <summary>Puts nodes behind one, or before all others when it is null, in the order given.</summary>
    public static void InsertAfter(GraphScope scope, NodeProto? node, IReadOnlyList<NodeProto> nodes)
    {
        scope.Edit(l => l.InsertAfter(node, nodes));
        Define(scope, nodes);
    }

    /// <summary>Puts nodes in the place of one.</summary>
    public static void Replace(GraphScope scope, NodeProto old, IReadOnlyList<NodeProto> nodes)
    {
        scope.Edit(l => l.Replace(old, nodes));
        Define(scope, nodes);
    }

    private static void Define(GraphScope scope, IReadOnlyList<NodeProto> nodes)
    {
        foreach (var n in nodes)
        foreach (var o in n.Output)
            scope.Define(o);
    }

    /// <summary>Begins many edits of the model, written to it when the batch is disposed.</summary>
    /// <param name="more">Scopes from elsewhere that edits name too.</param>
    internal EditBatch Batch(params IEnumerable<GraphScope> more) => new(Roots.Concat(more));

    /// <summary>Makes every use of some values, in their scope and those inside it, mean others of the same scope.</summary>
    /// <param name="home">The scope that defines all of them.</param>
    /// <param name="moves">Old name → new name.</param>
    /// <returns>Names still used: graph outputs, and uses where an inner scope hides the new name.</returns>
    public static IReadOnlySet<string> Redirect(GraphScope home, IReadOnlyDictionary<string, string> moves)
    {
        var stay = new HashSet<string>(StringComparer.Ordinal);
        foreach (var scope in home.All())
        {
            foreach (var node in scope.Nodes)
            {
                for (var i = 0; i < node.Input.Count; i++)
                {
                    if (!moves.TryGetValue(node.Input[i], out var to) || scope.Resolve(node.Input[i]) != home)
                        continue;
                    if (scope.Resolve(to) == home)
                        node.Input[i] = to;
                    else
                        stay.Add(node.Input[i]);
                }
            }
            foreach (var o in scope.Graph?.Output ?? [])
                if (moves.ContainsKey(o.Name) && scope.Resolve(o.Name) == home)
                    stay.Add(o.Name);
        }
        return stay;
    }

    /// <summary>Drops nodes and initializers of the main graph and its subgraphs that nothing uses, until none is left.</summary>
    /// <param name="cancellation">Cancels the work.</param>
    public void DropDead(CancellationToken cancellation) => DeadNodes.Drop(Roots[0], cancellation);

    /// <summary>Removes the initializer or Constant node that holds a weight; its uses stay and must be defined anew.</summary>
    public static void RemoveDefinition(Weight weight)
    {
        if (weight.Cast is { } cast)
            weight.Scope.Edit(l => l.Replace(cast, []));
        if (weight.Constant is { } constant)
            weight.Scope.Edit(l => l.Replace(constant, []));
        else
            weight.Scope.Remove(weight.Tensor);
    }

    /// <summary>A node of the default domain, or of <paramref name="op"/>'s when it is written <c>domain:Op</c>.</summary>
    public static NodeProto Node(
        string op,
        IEnumerable<string> inputs,
        IEnumerable<string> outputs,
        params ReadOnlySpan<AttributeProto> attributes
    )
    {
        var colon = op.IndexOf(':');
        var node = new NodeProto { OpType = op[(colon + 1)..] };
        if (colon > 0)
            node.Domain = op[..colon];
        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        node.Attribute.AddRange(attributes.ToArray());
        return node;
    }

    /// <summary>A constant with its bytes inline.</summary>
    public static TensorProto Tensor(DataType type, ReadOnlySpan<byte> bytes, params ReadOnlySpan<long> dims)
    {
        var tensor = new TensorProto { DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
        tensor.Dims.AddRange(dims.ToArray());
        return tensor;
    }

    /// <summary>A FLOAT constant with its bytes inline; a scalar without dimensions.</summary>
    public static TensorProto Tensor(ReadOnlySpan<float> values, params ReadOnlySpan<long> dims) =>
        Tensor(DataType.Float, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values), dims);

    /// <summary>An INT attribute.</summary>
    public static AttributeProto Attribute(string name, long value) =>
        new()
        {
            Name = name,
            I = value,
            Type = AttributeProto.Types.AttributeType.Int,
        };

    /// <summary>A FLOAT attribute.</summary>
    public static AttributeProto Attribute(string name, float value) =>
        new()
        {
            Name = name,
            F = value,
            Type = AttributeProto.Types.AttributeType.Float,
        };

    /// <summary>A TENSOR attribute.</summary>
    public static AttributeProto Attribute(string name, TensorProto value) =>
        new()
        {
            Name = name,
            T = value,
            Type = AttributeProto.Types.AttributeType.Tensor,
        };

    /// <summary>An INTS attribute.</summary>
    public static AttributeProto Attribute(string name, params long[] values)
    {
        var a = new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Ints };
        a.Ints.AddRange(values);
        return a;
    }

    // Before IR 4 every initializer had to be a graph input too, and was a constant all the same. From 4 on an
    // initializer that is an input may be overridden by the caller, so those inputs go.
    private void RaiseIrVersion()
    {
        if (Model.IrVersion >= 4)
            return;
        Model.IrVersion = 4;
        var initializers = Model.Graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        var given = Model.Graph.Input.Where(v => !initializers.Contains(v.Name)).ToList();
        Model.Graph.Input.Clear();
        Model.Graph.Input.AddRange(given);
    }
}
