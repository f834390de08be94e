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
    /// single node may exceed it), so that a model larger than memory is run piece by piece. Weights that are decoded count as what their
    /// decoding takes.
    /// </summary>
    /// <param name="model">The model; Constant nodes become initializers.</param>
    /// <param name="limit">Bytes.</param>
    /// <param name="asked">Values that are asked for; by default the model's outputs. Nodes that none follows from are left out.</param>
    public static IReadOnlyList<Segment> Of(ModelProto model, long limit, IReadOnlySet<string>? asked = null)
    {
        ModelWriter.LiftConstants(model);
        var graph = model.Graph;
        var outputs = asked ?? graph.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var order = new CopiedNodes(graph, outputs);
        var initializers = graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var sparse = graph.SparseInitializer.Where(t => t.Values is not null).ToDictionary(t => t.Values.Name, StringComparer.Ordinal);
        var parts = Cut(model, order, order.Needed(outputs), initializers, limit);
        var lastUse = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var s = 0; s < parts.Count; s++)
            foreach (var name in parts[s].SelectMany(k => order.Uses[k]))
                lastUse[name] = s;
        var segments = new List<Segment>();
        for (var s = 0; s < parts.Count; s++)
        {
            var inside = Made(parts[s]).ToHashSet(StringComparer.Ordinal);
            var taken = parts[s].SelectMany(k => order.Uses[k]).Distinct().Where(n => !inside.Contains(n)).ToList();
            segments.Add(
                new Segment(
                    [.. parts[s].Select(order.Node)],
                    [.. taken.Where(initializers.ContainsKey).Select(n => initializers[n])],
                    [.. taken.Where(n => !initializers.ContainsKey(n) && !sparse.ContainsKey(n))],
                    [
                        .. Made(parts[s].Where(k => !order.IsCopied(k)))
                            .Where(o => outputs.Contains(o) || lastUse.GetValueOrDefault(o, -1) > s)
                            .Order(StringComparer.Ordinal),
                    ]
                )
                {
                    Sparse = [.. taken.Where(sparse.ContainsKey).Select(n => sparse[n])],
                }
            );
        }
        return segments;

        IEnumerable<string> Made(IEnumerable<int> nodes) => nodes.SelectMany(k => order.Node(k).Output).Where(o => o.Length > 0);
    }

    // Places in the order, with the constants that a part decodes.
    private static List<List<int>> Cut(
        ModelProto model,
        CopiedNodes order,
        HashSet<int> needed,
        Dictionary<string, TensorProto> initializers,
        long limit
    )
    {
        var parts = new List<List<int>>();
        var folded = new Lazy<FoldedBytes>(() => new FoldedBytes(model, order));
        var (nodes, held) = (new SortedSet<int>(), 0L);
        var counted = new HashSet<string>(StringComparer.Ordinal);
        for (var k = 0; k < order.Count; k++)
        {
            if (order.IsCopied(k) || !needed.Contains(k))
                continue;
            var own = order.Behind([k]).Append(k).ToList();
            var bytes = Bytes(own);
            if (held > 0 && held + bytes > limit)
            {
                parts.Add([.. nodes]);
                (nodes, held, counted) = ([], 0, new HashSet<string>(StringComparer.Ordinal));
                bytes = Bytes(own);
            }
            held += bytes;
            counted.UnionWith(own.SelectMany(n => order.Uses[n]));
            nodes.UnionWith(own);
        }
        parts.Add([.. nodes]);
        return parts;

        long Bytes(List<int> own)
        {
            var stored = own.SelectMany(n => order.Uses[n])
                .Distinct()
                .Where(n => !counted.Contains(n) && initializers.ContainsKey(n))
                .Sum(n => TensorRef.From(initializers[n], n).Length);
            var made = own.Count > 1 ? own.Where(n => !nodes.Contains(n)).Sum(folded.Value.Of) : 0;
            return stored + made + GraphScope.Subgraphs(order.Node(own[^1])).Sum(g => (long)g.CalculateSize());
        }
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
