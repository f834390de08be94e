using Google.Protobuf.Collections;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// One naming scope: the main graph, a subgraph of If/Loop/Scan, or a model-local function. Names of a graph are
/// visible in its subgraphs unless they are defined again there (ONNX IR, "Names Within a Graph").
/// </summary>
public sealed class GraphScope
{
    private IReadOnlyList<OperatorSetIdProto> opsets = [];
    private readonly HashSet<string> defined = new(StringComparer.Ordinal);
    private GraphEdits? edits;
    private GraphIndex? index;

    private GraphScope(string path, GraphScope? parent, GraphProto? graph, FunctionProto? function)
    {
        (Path, Parent, Graph, Function) = (path, parent, graph, function);
        if (graph is not null)
        {
            foreach (var v in graph.Input)
                defined.Add(v.Name);
            foreach (var t in graph.Initializer)
                defined.Add(t.Name);
            foreach (var s in graph.SparseInitializer)
                defined.Add(s.Values?.Name ?? "");
        }
        else
        {
            foreach (var i in function!.Input)
                defined.Add(i);
        }
        foreach (var n in Nodes)
        foreach (var o in n.Output)
            if (o.Length > 0)
                defined.Add(o);
    }

    /// <summary>Empty for the main graph; else the owning nodes and attributes, as <c>If_0/then_branch</c>.</summary>
    public string Path { get; }

    /// <summary>The enclosing scope; null for the main graph and for functions.</summary>
    public GraphScope? Parent { get; }

    /// <summary>The node that holds the graph of a subgraph, or null.</summary>
    public NodeProto? Owner { get; private init; }

    /// <summary>The graph, or null when the scope is a function.</summary>
    public GraphProto? Graph { get; }

    /// <summary>The function, or null when the scope is a graph.</summary>
    public FunctionProto? Function { get; }

    /// <summary>The nodes of this scope, not of those inside it.</summary>
    public RepeatedField<NodeProto> Nodes
    {
        get
        {
            edits?.Commit();
            return Graph?.Node ?? Function!.Node;
        }
    }

    /// <summary>Who makes and takes its values. Within a batch of edits, as it was when first asked for.</summary>
    public GraphIndex Index => index ??= new GraphIndex(this);

    /// <summary>The version of the default operator set that the nodes mean.</summary>
    public long Opset => Parent?.Opset ?? (opsets.LastOrDefault(o => o.Domain is "" or "ai.onnx")?.Version ?? 1);

    /// <summary>Scopes directly inside this one.</summary>
    public List<GraphScope> Children { get; } = [];

    /// <summary>
    /// The initializers that stay as they are: since IR 4 a caller may give a graph's inputs other values than their initializers (ONNX
    /// IR, "Graphs"). Of a function none.
    /// </summary>
    public IEnumerable<TensorProto> Constants
    {
        get
        {
            if (Graph is null)
                return [];
            var inputs = Graph.Input.Select(v => v.Name).ToHashSet(StringComparer.Ordinal);
            return Graph.Initializer.Where(t => !inputs.Contains(t.Name));
        }
    }

    /// <summary>Whether the name is defined in this scope itself.</summary>
    public bool Defines(string name) => defined.Contains(name);

    /// <summary>The scope that a name used here refers to, or null.</summary>
    public GraphScope? Resolve(string name)
    {
        for (var scope = this; scope is not null; scope = scope.Parent)
            if (scope.defined.Contains(name))
                return scope;
        return null;
    }

    /// <summary>Edits the nodes: at once, or in a batch.</summary>
    internal void Edit(Action<NodeList> edit)
    {
        if (edits is { } batch)
        {
            edit(batch.Nodes);
            return;
        }
        var list = new NodeList(Nodes);
        edit(list);
        list.Commit();
        index = null;
    }

    /// <summary>Removes an initializer: at once, or in a batch.</summary>
    internal void Remove(TensorProto initializer)
    {
        var batch = edits ?? new GraphEdits(Nodes, Graph!.Initializer);
        batch.Remove(initializer);
        if (edits is not null)
            return;
        batch.Commit();
        index = null;
    }

    /// <summary>Begins a batch of edits.</summary>
    /// <exception cref="InvalidOperationException">Another is under way.</exception>
    internal void Begin(GraphEdits batch)
    {
        if (edits is not null)
            throw new InvalidOperationException("Two batches of edits of a graph are under way.");
        (edits, index) = (batch, null);
    }

    /// <summary>Writes the edits and ends the batch.</summary>
    internal void End()
    {
        edits?.Commit();
        (edits, index) = (null, null);
    }

    /// <summary>Lets the index be made anew, after nodes were changed in place.</summary>
    internal void Forget() => index = null;

    /// <summary>Notes a name that an edit added to this scope.</summary>
    internal void Define(string name) => defined.Add(name);

    /// <summary>This scope and all inside it, outermost first.</summary>
    public IEnumerable<GraphScope> All() => Children.SelectMany(c => c.All()).Prepend(this);

    /// <summary>The scopes of a model: the main graph first, then each function.</summary>
    public static IReadOnlyList<GraphScope> Of(ModelProto model)
    {
        var roots = new List<GraphScope> { Build("", null, model.Graph, null) };
        roots[0].opsets = model.OpsetImport;
        for (var i = 0; i < model.Functions.Count; i++)
            roots.Add(Build($"function {model.Functions[i].Domain}:{model.Functions[i].Name}", null, null, model.Functions[i]));
        for (var i = 0; i < model.Functions.Count; i++)
            roots[i + 1].opsets = model.Functions[i].OpsetImport;
        return roots;
    }

    /// <summary>Names that subgraphs of <paramref name="node"/> take from outside the node.</summary>
    public static IEnumerable<string> Captures(NodeProto node)
    {
        foreach (var graph in Subgraphs(node))
        foreach (var name in FreeNames(graph))
            yield return name;
    }

    /// <summary>The graphs that a node's attributes hold.</summary>
    public static IEnumerable<GraphProto> Subgraphs(NodeProto node)
    {
        foreach (var a in node.Attribute)
        {
            if (a.G is not null)
                yield return a.G;
            foreach (var g in a.Graphs)
                yield return g;
        }
    }

    private static HashSet<string> FreeNames(GraphProto graph)
    {
        var inside = new HashSet<string>(StringComparer.Ordinal);
        foreach (var v in graph.Input)
            inside.Add(v.Name);
        foreach (var t in graph.Initializer)
            inside.Add(t.Name);
        foreach (var s in graph.SparseInitializer)
            inside.Add(s.Values?.Name ?? "");
        foreach (var n in graph.Node)
        foreach (var o in n.Output)
            inside.Add(o);
        var free = new HashSet<string>(StringComparer.Ordinal);
        foreach (var n in graph.Node)
        {
            foreach (var i in n.Input)
                if (i.Length > 0 && !inside.Contains(i))
                    free.Add(i);
            foreach (var c in Captures(n))
                if (!inside.Contains(c))
                    free.Add(c);
        }
        foreach (var o in graph.Output)
            if (!inside.Contains(o.Name))
                free.Add(o.Name);
        return free;
    }

    private static GraphScope Build(string path, GraphScope? parent, GraphProto? graph, FunctionProto? function, NodeProto? owner = null)
    {
        var scope = new GraphScope(path, parent, graph, function) { Owner = owner };
        for (var i = 0; i < scope.Nodes.Count; i++)
        {
            var node = scope.Nodes[i];
            foreach (var a in node.Attribute)
            {
                if (a.G is null && a.Graphs.Count == 0)
                    continue;
                var inner = a.G is null ? a.Graphs.ToList() : [a.G, .. a.Graphs];
                for (var g = 0; g < inner.Count; g++)
                {
                    var name = node.HasName && node.Name.Length > 0 ? node.Name : $"{node.OpType}_{i}";
                    var step = $"{name}/{a.Name}{(inner.Count > 1 ? $"[{g}]" : "")}";
                    scope.Children.Add(Build(path.Length == 0 ? step : $"{path}/{step}", scope, inner[g], null, node));
                }
            }
        }
        return scope;
    }
}
