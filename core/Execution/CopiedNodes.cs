using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>
/// The nodes of a graph in topological order, and which of them each part of it takes along when it is run in parts: constants, that stay
/// constants then, and DequantizeLinear, which ONNX Runtime makes one integer kernel with the layer behind it, within one session alone.
/// </summary>
internal sealed class CopiedNodes
{
    // Constants computed by more nodes than this are run once, like other values.
    private const int MostConstantNodes = 1024;

    private readonly GraphProto graph;
    private readonly int[] order;
    private readonly Dictionary<string, int> producer = new(StringComparer.Ordinal);
    private readonly bool[] copied;

    /// <summary>Reads a graph.</summary>
    /// <param name="graph">The graph; without a cycle.</param>
    /// <param name="made">Values whose nodes are not copied: what is asked of the run.</param>
    public CopiedNodes(GraphProto graph, IReadOnlySet<string> made)
    {
        this.graph = graph;
        order = GraphCheck.TopologicalOrder(graph.Node)!;
        Uses = new IReadOnlyList<string>[order.Length];
        copied = new bool[order.Length];
        for (var k = 0; k < order.Length; k++)
        {
            Uses[k] = [.. Node(k).Input.Concat(GraphScope.Captures(Node(k))).Where(n => n.Length > 0).Distinct()];
            foreach (var o in Node(k).Output)
                if (o.Length > 0)
                    producer[o] = k;
        }
        Mark(made, [.. graph.Initializer.Select(t => t.Name)]);
    }

    /// <summary>Number of nodes.</summary>
    public int Count => order.Length;

    /// <summary>What each node takes, values that its subgraphs capture included.</summary>
    public IReadOnlyList<string>[] Uses { get; }

    /// <summary>The node at a place of the order.</summary>
    public NodeProto Node(int k) => graph.Node[order[k]];

    /// <summary>Whether parts have copies of a node.</summary>
    public bool IsCopied(int k) => copied[k];

    /// <summary>The place of the node that makes a value; null for inputs and initializers.</summary>
    public int? Producer(string value) => producer.TryGetValue(value, out var k) ? k : null;

    /// <summary>The copied nodes that some nodes take values of, through other copied ones too.</summary>
    public HashSet<int> Behind(IEnumerable<int> nodes)
    {
        var (found, open) = (new HashSet<int>(), new Stack<int>(nodes));
        while (open.TryPop(out var k))
            foreach (var name in Uses[k])
                if (Producer(name) is { } p && copied[p] && found.Add(p))
                    open.Push(p);
        return found;
    }

    /// <summary>The nodes that some values follow from.</summary>
    public HashSet<int> Needed(IEnumerable<string> values)
    {
        var (found, open) = (new HashSet<int>(), new Stack<string>(values));
        while (open.TryPop(out var value))
            if (Producer(value) is { } k && found.Add(k))
                foreach (var name in Uses[k])
                    open.Push(name);
        return found;
    }

    private void Mark(IReadOnlySet<string> made, HashSet<string> initializers)
    {
        var size = new int[order.Length];
        for (var k = 0; k < order.Length; k++)
        {
            var node = Node(k);
            if (node.Domain is not ("" or "ai.onnx" or "com.microsoft") || node.Output.Any(made.Contains))
                continue;
            var constant = node.OpType == "Constant" || Uses[k].Count > 0 && !IsRandom(node) && Uses[k].All(IsConstant);
            if (constant)
                size[k] = (int)Math.Min(MostConstantNodes + 1L, 1 + Uses[k].Sum(Size));
            copied[k] = constant ? size[k] <= MostConstantNodes : node.OpType == "DequantizeLinear";
        }

        long Size(string name) => Producer(name) is { } p ? size[p] : 0;

        bool IsConstant(string name) => Producer(name) is { } p ? size[p] > 0 && copied[p] : initializers.Contains(name);
    }

    private static bool IsRandom(NodeProto node) => node.OpType == "Dropout" || OperatorKinds.IsRandom(node);
}
