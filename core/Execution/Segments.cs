using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>A part of a model that is run on its own: its nodes, what it takes and what it leaves for later ones.</summary>
/// <param name="Nodes">Nodes in topological order.</param>
/// <param name="Initializers">Initializers that they use.</param>
/// <param name="Inputs">Values from the caller or from earlier segments.</param>
/// <param name="Outputs">Values that later segments or the caller take.</param>
internal sealed record Segment(
    IReadOnlyList<NodeProto> Nodes,
    IReadOnlyList<TensorProto> Initializers,
    IReadOnlyList<string> Inputs,
    IReadOnlyList<string> Outputs
)
{
    /// <summary>Sparse initializers that they use.</summary>
    public IReadOnlyList<SparseTensorProto> Sparse { get; init; } = [];

    /// <summary>
    /// Cuts a model, in topological order, into segments whose weights take at most <paramref name="limit"/> bytes (a
    /// single node may exceed it), so that a model larger than memory is run piece by piece.
    /// </summary>
    public static IReadOnlyList<Segment> Of(ModelProto model, long limit)
    {
        ModelWriter.LiftConstants(model);
        var graph = model.Graph;
        var order = GraphCheck.TopologicalOrder(graph.Node)!;
        var initializers = graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var sparse = graph.SparseInitializer.Where(t => t.Values is not null).ToDictionary(t => t.Values.Name, StringComparer.Ordinal);
        var uses = order
            .Select(i => graph.Node[i].Input.Concat(GraphScope.Captures(graph.Node[i])).Where(n => n.Length > 0).Distinct().ToList())
            .ToList();
        var cuts = new List<(int Start, int End)>();
        var (start, held) = (0, 0L);
        var counted = new HashSet<string>(StringComparer.Ordinal);
        for (var k = 0; k < order.Length; k++)
        {
            long own = GraphScope.Subgraphs(graph.Node[order[k]]).Sum(g => (long)g.CalculateSize());
            foreach (var name in uses[k])
                if (initializers.TryGetValue(name, out var t) && !counted.Contains(name))
                    own += TensorRef.From(t, name).Length;
            if (held > 0 && held + own > limit)
            {
                cuts.Add((start, k));
                (start, held) = (k, 0);
                counted = new HashSet<string>(StringComparer.Ordinal);
                own = uses[k].Sum(n => initializers.TryGetValue(n, out var t) ? TensorRef.From(t, n).Length : 0);
            }
            held += own;
            counted.UnionWith(uses[k]);
        }
        cuts.Add((start, order.Length));

        var lastUse = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var s = 0; s < cuts.Count; s++)
        for (var k = cuts[s].Start; k < cuts[s].End; k++)
            foreach (var name in uses[k])
                lastUse[name] = s;
        var outputs = graph.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var segments = new List<Segment>();
        for (var s = 0; s < cuts.Count; s++)
        {
            var nodes = Enumerable.Range(cuts[s].Start, cuts[s].End - cuts[s].Start).Select(k => graph.Node[order[k]]).ToList();
            var made = nodes.SelectMany(n => n.Output).Where(o => o.Length > 0).ToHashSet(StringComparer.Ordinal);
            var taken = Enumerable
                .Range(cuts[s].Start, cuts[s].End - cuts[s].Start)
                .SelectMany(k => uses[k])
                .Distinct()
                .Where(n => !made.Contains(n))
                .ToList();
            segments.Add(
                new Segment(
                    nodes,
                    [.. taken.Where(initializers.ContainsKey).Select(n => initializers[n])],
                    [.. taken.Where(n => !initializers.ContainsKey(n) && !sparse.ContainsKey(n))],
                    [.. made.Where(o => outputs.Contains(o) || lastUse.GetValueOrDefault(o, -1) > s).Order(StringComparer.Ordinal)]
                )
                {
                    Sparse = [.. taken.Where(sparse.ContainsKey).Select(n => sparse[n])],
                }
            );
        }
        return segments;
    }

    /// <summary>The segment as a model of its own.</summary>
    /// <param name="whole">The model it is from, for its operator sets.</param>
    /// <param name="functions">The functions of the model, of which those that it calls are taken.</param>
    /// <param name="input">An input of it.</param>
    public ModelProto ToModel(ModelProto whole, FunctionCalls functions, Func<string, ValueInfoProto> input)
    {
        var model = new ModelProto
        {
            IrVersion = Math.Max(whole.IrVersion, 4),
            Graph = new GraphProto { Name = "segment" },
        };
        model.OpsetImport.AddRange(whole.OpsetImport);
        model.Functions.AddRange(functions.Of(Nodes));
        model.Graph.Node.AddRange(Nodes);
        model.Graph.Initializer.AddRange(Initializers);
        model.Graph.SparseInitializer.AddRange(Sparse);
        foreach (var name in Inputs)
            model.Graph.Input.Add(input(name));
        foreach (var name in Outputs)
            model.Graph.Output.Add(new ValueInfoProto { Name = name });
        return model;
    }

    /// <summary>For each segment, the names that no later one takes.</summary>
    /// <param name="segments">The segments in order.</param>
    /// <param name="wanted">Names that are needed at the end.</param>
    public static IReadOnlyList<IReadOnlySet<string>> LastUses(IReadOnlyList<Segment> segments, IReadOnlySet<string> wanted)
    {
        var last = new HashSet<string>[segments.Count];
        var later = new HashSet<string>(wanted, StringComparer.Ordinal);
        for (var s = segments.Count - 1; s >= 0; s--)
            last[s] = segments[s].Inputs.Where(later.Add).ToHashSet(StringComparer.Ordinal);
        return last;
    }
}
