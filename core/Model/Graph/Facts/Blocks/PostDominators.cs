namespace Serverless.Core.Model;

/// <summary>
/// The nodes that every path of data from a value to an output of the graph goes through (Cooper, Harvey and Kennedy 2001, "A Simple,
/// Fast Dominance Algorithm"; in a graph without cycles one pass is enough).
/// </summary>
internal sealed class PostDominators
{
    private const int Dead = -1;
    private readonly GraphIndex index;
    private readonly DataFlow flow;
    private readonly int[] next;

    /// <summary>Of the main graph.</summary>
    public PostDominators(GraphScope scope, DataFlow flow)
    {
        (index, this.flow) = (scope.Index, flow);
        next = new int[flow.Nodes.Count];
        for (var i = next.Length - 1; i >= 0; i--)
            next[i] = flow.Nodes[i].Output.Where(o => o.Length > 0).Aggregate(Dead, Behind);
    }

    /// <summary>The nodes of a value, nearest first.</summary>
    public IEnumerable<int> Of(string value)
    {
        for (var i = Behind(Dead, value); i != Dead && i < next.Length; i = next[i])
            yield return i;
    }

    /// <summary>The nodes behind a node.</summary>
    public IEnumerable<int> Of(int node)
    {
        for (var i = next[node]; i != Dead && i < next.Length; i = next[i])
            yield return i;
    }

    // The first node that all paths share, of those before and those that begin with the value; the end stands behind all nodes.
    private int Behind(int before, string value)
    {
        if (index.IsOutput(value))
            before = Common(before, next.Length);
        foreach (var taker in flow.Takers(value))
            if (flow.Place(taker) is var place && (next[place] != Dead))
                before = Common(before, place);
        return before;
    }

    private int Common(int a, int b)
    {
        if (a == Dead || b == Dead)
            return Math.Max(a, b);
        while (a != b)
            if (a < b)
                a = next[a];
            else
                b = next[b];
        return a;
    }
}
