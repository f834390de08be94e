using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// How often a run of a model runs each of its graphs: of an If one branch, of a Loop or Scan as many rounds as follow from its inputs,
/// else one.
/// </summary>
internal sealed class ScopeRuns
{
    // A Loop that a condition ends is given as many rounds as a number holds.
    private const long MostRounds = 1 << 20;
    private readonly GraphFacts facts;
    private readonly ILookup<GraphScope, long> costs;
    private readonly Dictionary<GraphScope, long> rounds = [];

    /// <param name="facts">Facts of the model.</param>
    /// <param name="costs">What one round of a graph costs, without the graphs inside it: the dearer of two branches counts.</param>
    public ScopeRuns(GraphFacts facts, ILookup<GraphScope, long> costs)
    {
        (this.facts, this.costs) = (facts, costs);
        foreach (var root in facts.Roots)
            Cost(root);
    }

    /// <summary>Runs of a graph in one of the model.</summary>
    public long Of(GraphScope scope) => scope.Parent is { } parent ? MultiplyAccumulates.Times(rounds[scope], Of(parent)) : 1;

    private long Cost(GraphScope scope)
    {
        var inner = scope.Children.ToLookup(c => c.Owner, ReferenceEqualityComparer.Instance);
        return MultiplyAccumulates.Total([.. costs[scope], .. inner.Select(g => Inner(scope, (NodeProto)g.Key!, [.. g]))]);
    }

    private long Inner(GraphScope scope, NodeProto owner, IReadOnlyList<GraphScope> bodies)
    {
        var each = bodies.Select(Cost).ToList();
        var branch = owner.Operator() == "If";
        var taken = branch ? facts.In(scope).Taken(owner) ?? bodies[each.IndexOf(each.Max())] : null;
        long total = 0;
        for (var i = 0; i < bodies.Count; i++)
        {
            rounds[bodies[i]] = branch ? (ReferenceEquals(bodies[i], taken) ? 1 : 0) : Rounds(scope, owner);
            total = MultiplyAccumulates.Total([total, MultiplyAccumulates.Times(each[i], rounds[bodies[i]])]);
        }
        return total;
    }

    private long Rounds(GraphScope scope, NodeProto owner)
    {
        var known = (owner.Operator(), owner.Input.Count) switch
        {
            ("Loop", > 0) => facts.In(scope).Constants(owner.Input[0]) is [var most] ? most : null,
            ("Scan", > 0) when owner.Attribute("scan_input_axes") is null => facts.In(scope).Shape(owner.Input[^1]) is [var length, ..]
                ? length.Value
                : null,
            _ => (long?)null,
        };
        return known is >= 0 and <= MostRounds ? known.Value : 1;
    }
}
