using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>The nodes between a value and one that follows from it.</summary>
internal sealed class BlockRegion(string input, DataFlow flow, GraphIndex index)
{
    /// <summary>Nodes of a block, at most.</summary>
    public const int Most = 1000;
    private readonly SortedSet<int> nodes = [];
    private readonly HashSet<string> made = new(StringComparer.Ordinal);

    /// <summary>Places of the nodes, in topological order.</summary>
    public IReadOnlyCollection<int> Places => nodes;

    /// <summary>The nodes, in topological order.</summary>
    public IEnumerable<NodeProto> Nodes => nodes.Select(i => flow.Nodes[i]);

    /// <summary>Whether there is a layer in it: a product, a recurrent layer, or an operator not known here with a matrix.</summary>
    public bool HasLayer { get; private set; }

    /// <summary>Whether a node has subgraphs.</summary>
    public bool HasSubgraphs { get; private set; }

    /// <summary>Whether it takes data from elsewhere, as the mask of an attention is.</summary>
    public bool HasOtherInputs =>
        Nodes.SelectMany(DataFlow.Taken).Any(value => value != input && flow.IsData(value) && !made.Contains(value));

    /// <summary>Whether a value is made in it.</summary>
    public bool Makes(string value) => made.Contains(value);

    /// <summary>A copy that can grow by itself.</summary>
    public BlockRegion Copy()
    {
        var copy = new BlockRegion(input, flow, index);
        foreach (var node in nodes)
            copy.Add(node);
        return copy;
    }

    /// <summary>Takes in what is on the way from values to a node that all their paths go through.</summary>
    /// <returns>Whether it is no larger than a block may be.</returns>
    public bool Grow(IEnumerable<string> from, int to)
    {
        var open = new Stack<string>(from);
        while (open.TryPop(out var value))
            foreach (var taker in flow.Takers(value))
                if (flow.Place(taker) is var place && place <= to && !nodes.Contains(place))
                {
                    Add(place);
                    if (nodes.Count > Most)
                        return false;
                    if (place == to)
                        continue;
                    foreach (var output in taker.Output.Where(o => o.Length > 0))
                        open.Push(output);
                }
        return true;
    }

    /// <summary>Takes in the nodes on any way from the input to a node.</summary>
    /// <returns>Whether there are some, and no more than a block may have.</returns>
    public bool Between(int to)
    {
        var first = index.Producer(input) is { } producer ? flow.Place(producer) : -1;
        var (seen, open) = (new SortedSet<int> { to }, new Stack<int>([to]));
        while (open.TryPop(out var place))
            foreach (var value in DataFlow.Taken(flow.Nodes[place]).Where(v => v != input && flow.IsData(v)))
                if (index.Producer(value) is { } before && flow.Place(before) is var at && at > first && seen.Add(at))
                {
                    open.Push(at);
                    if (seen.Count > Most)
                        return false;
                }
        foreach (var place in seen)
            if (!DataFlow.ReadsLengths(flow.Nodes[place]) && DataFlow.Taken(flow.Nodes[place]).Any(v => v == input || made.Contains(v)))
                Add(place);
        return nodes.Contains(to) && nodes.Count > 1;
    }

    /// <summary>What goes with the region where its output is taken from elsewhere.</summary>
    public (SortedSet<int> Nodes, List<string> Constants) Dying()
    {
        var (dying, constants) = (new SortedSet<int>(nodes), new List<string>());
        var left = new Dictionary<string, int>(StringComparer.Ordinal);
        var open = new Stack<int>(nodes);
        while (open.TryPop(out var place))
            foreach (var value in DataFlow.Taken(flow.Nodes[place]).Distinct())
            {
                if (value == input || made.Contains(value))
                    continue;
                var uses = left[value] = left.GetValueOrDefault(value, index.OwnConsumers(value).Count()) - 1;
                if (uses > 0 || index.IsOutput(value))
                    continue;
                if (index.Producer(value) is not { } producer)
                {
                    if (index.Initializer(value) is not null)
                        constants.Add(value);
                }
                else if (
                    producer.Output.All(o => o.Length == 0 || !index.IsOutput(o) && Uses(o) == 0)
                    && !GraphScope.Subgraphs(producer).Any()
                    && dying.Add(flow.Place(producer))
                )
                    open.Push(flow.Place(producer));
            }
        return (dying, constants);

        int Uses(string value) => left.TryGetValue(value, out var uses) ? uses : index.OwnConsumers(value).Count();
    }

    private void Add(int place)
    {
        var node = flow.Nodes[place];
        nodes.Add(place);
        made.UnionWith(node.Output.Where(o => o.Length > 0));
        HasSubgraphs |= GraphScope.Subgraphs(node).Any();
        HasLayer |= BlockShape.IsLayer(node, index);
    }
}
