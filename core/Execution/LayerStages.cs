using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>A part of a model that ends with a layer's value.</summary>
/// <param name="Part">The nodes to run; its outputs are the layer's value and what later stages take.</param>
/// <param name="Layer">The layer's value.</param>
/// <param name="Last">Inputs that no later stage takes.</param>
internal sealed record LayerStage(Segment Part, string Layer, IReadOnlySet<string> Last);

/// <summary>
/// Cuts a model at layers, so that each is measured, changed and run again with what follows it, every node at most twice.
/// A stage begins with the layer that the stage before ended with: ONNX Runtime makes one integer kernel of a layer, the
/// DequantizeLinear before it and the QuantizeLinear behind it, and does so only within one session. For the same reason a
/// DequantizeLinear is copied to the stages that take its value, and so are constants, which stay constants then.
/// </summary>
internal sealed class LayerStages
{
    // Constants computed by more nodes than this are run once, like other values.
    private const int MostConstantNodes = 1024;

    private readonly GraphProto graph;
    private readonly int[] order;
    private readonly List<string>[] uses;
    private readonly Dictionary<string, int> producer = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TensorProto> initializers;
    private readonly Dictionary<string, SparseTensorProto> sparse;
    private readonly bool[] copied,
        needed;

    private LayerStages(ModelProto model, IReadOnlySet<string> layers)
    {
        graph = model.Graph;
        order = GraphCheck.TopologicalOrder(graph.Node)!;
        uses = new List<string>[order.Length];
        copied = new bool[order.Length];
        needed = new bool[order.Length];
        initializers = graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        sparse = graph.SparseInitializer.Where(t => t.Values is not null).ToDictionary(t => t.Values.Name, StringComparer.Ordinal);
        for (var k = 0; k < order.Length; k++)
        {
            uses[k] = [.. graph.Node[order[k]].Input.Concat(GraphScope.Captures(graph.Node[order[k]])).Where(n => n.Length > 0).Distinct()];
            foreach (var o in graph.Node[order[k]].Output)
                if (o.Length > 0)
                    producer[o] = k;
        }
        MarkCopied(layers);
    }

    /// <summary>The stages that measure layers, in the order in which the layers are computed.</summary>
    /// <param name="model">The model.</param>
    /// <param name="layers">Values of layers, made by nodes of the main graph.</param>
    public static IReadOnlyList<LayerStage> Of(ModelProto model, IReadOnlySet<string> layers)
    {
        var cut = new LayerStages(model, layers);
        return cut.Connect(cut.Schedule(layers));
    }

    // Constants, and DequantizeLinear, cost little and belong beside whatever takes them.
    private void MarkCopied(IReadOnlySet<string> layers)
    {
        var size = new int[order.Length];
        for (var k = 0; k < order.Length; k++)
        {
            var node = graph.Node[order[k]];
            if (node.Domain is not ("" or "ai.onnx" or "com.microsoft") || node.Output.Any(layers.Contains))
                continue;
            var constant = node.OpType == "Constant" || uses[k].Count > 0 && !IsRandom(node) && uses[k].All(IsConstant);
            if (constant)
                size[k] = (int)Math.Min(MostConstantNodes + 1L, 1 + uses[k].Sum(Size));
            copied[k] = constant ? size[k] <= MostConstantNodes : node.OpType == "DequantizeLinear";

            long Size(string name) => producer.TryGetValue(name, out var p) ? size[p] : 0;

            bool IsConstant(string name) =>
                producer.TryGetValue(name, out var p) ? size[p] > 0 && copied[p] : initializers.ContainsKey(name);
        }
    }

    private static bool IsRandom(NodeProto node) => node.OpType == "Dropout" || OperatorKinds.IsRandom(node);

    // Places in the order, stage by stage. Whatever can run without the next layer does, so that what follows a layer is in
    // one stage with it.
    private List<(List<int> Nodes, string Layer)> Schedule(IReadOnlySet<string> layers)
    {
        var layerAt = new Dictionary<int, string>();
        foreach (var layer in layers)
            if (producer.TryGetValue(layer, out var k))
                layerAt[k] = layer;
        Need(layerAt.Keys);
        var waiting = new int[order.Length];
        var dependents = new List<int>?[order.Length];
        for (var k = 0; k < order.Length; k++)
        {
            if (!needed[k])
                continue;
            foreach (var p in uses[k].Where(producer.ContainsKey).Select(n => producer[n]).Distinct())
            {
                waiting[k]++;
                (dependents[p] ??= []).Add(k);
            }
        }
        var (ready, readyLayers) = (new PriorityQueue<int, int>(), new PriorityQueue<int, int>());
        for (var k = 0; k < order.Length; k++)
            if (needed[k] && waiting[k] == 0)
                Enqueue(k);
        var stages = new List<(List<int>, string)>();
        var nodes = new List<int>();
        while (ready.TryDequeue(out var k, out _) || readyLayers.TryDequeue(out k, out _))
        {
            if (!copied[k])
                nodes.Add(k);
            if (layerAt.TryGetValue(k, out var layer))
            {
                stages.Add((nodes, layer));
                nodes = dependents[k] is null ? [] : [k];
            }
            foreach (var d in dependents[k] ?? [])
                if (--waiting[d] == 0)
                    Enqueue(d);
        }
        return stages;

        void Enqueue(int k) => (layerAt.ContainsKey(k) ? readyLayers : ready).Enqueue(k, k);
    }

    private void Need(IEnumerable<int> ends)
    {
        var open = new Stack<int>(ends);
        while (open.TryPop(out var k))
        {
            if (needed[k])
                continue;
            needed[k] = true;
            foreach (var name in uses[k])
                if (producer.TryGetValue(name, out var p))
                    open.Push(p);
        }
    }

    private List<LayerStage> Connect(List<(List<int> Nodes, string Layer)> stages)
    {
        var (made, taken) = (new Dictionary<string, int>(StringComparer.Ordinal), new Dictionary<string, int>(StringComparer.Ordinal));
        var inputs = new List<List<string>>();
        for (var s = 0; s < stages.Count; s++)
        {
            // A layer that is run again is made by the later stage.
            foreach (var o in stages[s].Nodes.SelectMany(k => graph.Node[order[k]].Output))
                made[o] = s;
            stages[s].Nodes.AddRange(Copies(stages[s].Nodes));
            stages[s].Nodes.Sort();
            var inside = stages[s].Nodes.SelectMany(k => graph.Node[order[k]].Output).ToHashSet(StringComparer.Ordinal);
            var outside = stages[s].Nodes.SelectMany(k => uses[k]).Distinct().Where(n => !inside.Contains(n));
            inputs.Add([.. outside.Where(n => !initializers.ContainsKey(n) && !sparse.ContainsKey(n))]);
            foreach (var name in inputs[s])
                taken[name] = s;
        }
        var connected = new List<LayerStage>(stages.Count);
        for (var s = 0; s < stages.Count; s++)
        {
            var (nodes, layer) = stages[s];
            var outputs = nodes
                .Where(k => !copied[k])
                .SelectMany(k => graph.Node[order[k]].Output)
                .Where(o => o != layer && made[o] == s && taken.GetValueOrDefault(o, -1) > s);
            var constants = nodes.SelectMany(k => uses[k]).Distinct().Where(initializers.ContainsKey).Select(n => initializers[n]);
            var part = new Segment([.. nodes.Select(k => graph.Node[order[k]])], [.. constants], inputs[s], [layer, .. outputs])
            {
                Sparse = [.. nodes.SelectMany(k => uses[k]).Distinct().Where(sparse.ContainsKey).Select(n => sparse[n])],
            };
            connected.Add(new LayerStage(part, layer, inputs[s].Where(n => taken[n] == s).ToHashSet(StringComparer.Ordinal)));
        }
        return connected;
    }

    private HashSet<int> Copies(List<int> nodes)
    {
        var (found, open) = (new HashSet<int>(), new Stack<int>(nodes));
        while (open.TryPop(out var k))
            foreach (var name in uses[k])
                if (producer.TryGetValue(name, out var p) && copied[p] && found.Add(p))
                    open.Push(p);
        return found;
    }
}
