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
    private readonly CopiedNodes order;
    private readonly Dictionary<string, TensorProto> initializers;
    private readonly Dictionary<string, SparseTensorProto> sparse;

    private LayerStages(ModelProto model, IReadOnlySet<string> layers)
    {
        order = new CopiedNodes(model.Graph, layers);
        initializers = model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        sparse = model.Graph.SparseInitializer.Where(t => t.Values is not null).ToDictionary(t => t.Values.Name, StringComparer.Ordinal);
    }

    /// <summary>The stages that measure layers, in the order in which the layers are computed.</summary>
    /// <param name="model">The model.</param>
    /// <param name="layers">Values of layers, made by nodes of the main graph.</param>
    public static IReadOnlyList<LayerStage> Of(ModelProto model, IReadOnlySet<string> layers)
    {
        var cut = new LayerStages(model, layers);
        return cut.Connect(cut.Schedule(layers));
    }

    // Places in the order, stage by stage. Whatever can run without the next layer does, so that what follows a layer is in
    // one stage with it.
    private List<(List<int> Nodes, string Layer)> Schedule(IReadOnlySet<string> layers)
    {
        var layerAt = new Dictionary<int, string>();
        foreach (var layer in layers)
            if (order.Producer(layer) is { } k)
                layerAt[k] = layer;
        var needed = order.Needed(layerAt.Values);
        var waiting = new int[order.Count];
        var dependents = new List<int>?[order.Count];
        for (var k = 0; k < order.Count; k++)
        {
            if (!needed.Contains(k))
                continue;
            foreach (var p in order.Uses[k].Select(order.Producer).OfType<int>().Distinct())
            {
                waiting[k]++;
                (dependents[p] ??= []).Add(k);
            }
        }
        var (ready, readyLayers) = (new PriorityQueue<int, int>(), new PriorityQueue<int, int>());
        for (var k = 0; k < order.Count; k++)
            if (needed.Contains(k) && waiting[k] == 0)
                Enqueue(k);
        var stages = new List<(List<int>, string)>();
        var nodes = new List<int>();
        while (ready.TryDequeue(out var k, out _) || readyLayers.TryDequeue(out k, out _))
        {
            if (!order.IsCopied(k))
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

    private List<LayerStage> Connect(List<(List<int> Nodes, string Layer)> stages)
    {
        var (made, taken) = (new Dictionary<string, int>(StringComparer.Ordinal), new Dictionary<string, int>(StringComparer.Ordinal));
        var inputs = new List<List<string>>();
        for (var s = 0; s < stages.Count; s++)
        {
            // A layer that is run again is made by the later stage.
            foreach (var o in stages[s].Nodes.SelectMany(k => order.Node(k).Output))
                made[o] = s;
            stages[s].Nodes.AddRange(order.Behind(stages[s].Nodes));
            stages[s].Nodes.Sort();
            var inside = stages[s].Nodes.SelectMany(k => order.Node(k).Output).ToHashSet(StringComparer.Ordinal);
            var outside = stages[s].Nodes.SelectMany(k => order.Uses[k]).Distinct().Where(n => !inside.Contains(n));
            inputs.Add([.. outside.Where(n => !initializers.ContainsKey(n) && !sparse.ContainsKey(n))]);
            foreach (var name in inputs[s])
                taken[name] = s;
        }
        var connected = new List<LayerStage>(stages.Count);
        for (var s = 0; s < stages.Count; s++)
        {
            var (nodes, layer) = stages[s];
            var outputs = nodes
                .Where(k => !order.IsCopied(k))
                .SelectMany(k => order.Node(k).Output)
                .Where(o => o != layer && made[o] == s && taken.GetValueOrDefault(o, -1) > s);
            var constants = nodes.SelectMany(k => order.Uses[k]).Distinct().Where(initializers.ContainsKey).Select(n => initializers[n]);
            var part = new Segment([.. nodes.Select(k => order.Node(k))], [.. constants], inputs[s], [layer, .. outputs])
            {
                Sparse = [.. nodes.SelectMany(k => order.Uses[k]).Distinct().Where(sparse.ContainsKey).Select(n => sparse[n])],
            };
            connected.Add(new LayerStage(part, layer, inputs[s].Where(n => taken[n] == s).ToHashSet(StringComparer.Ordinal)));
        }
        return connected;
    }
}
