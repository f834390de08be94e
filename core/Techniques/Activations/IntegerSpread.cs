using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Finds the operators between integer kernels that can be integer too. Such an operator has an integer kernel of its own, its inputs are
/// codes, and an integer kernel takes its output.
/// </summary>
internal static class IntegerSpread
{
    /// <summary>Adds the operators found, and the values that they make, until there are no more.</summary>
    /// <param name="facts">Facts of the main graph.</param>
    /// <param name="made">Values that integer kernels make.</param>
    /// <param name="taken">Values that integer kernels take.</param>
    /// <param name="own">Nodes that are integer kernels.</param>
    public static void Grow(ScopeFacts facts, HashSet<string> made, HashSet<string> taken, HashSet<NodeProto> own)
    {
        var index = facts.Index;
        var nodes = facts.Scope.Nodes;
        // In topological order two rounds are enough: values follow from values before them.
        var order = GraphCheck
            .TopologicalOrder(nodes)!
            .Select(i => nodes[i])
            .Where(n => OperatorKinds.HasIntegerKernel(n) && n.Output.Count == 1)
            .ToList();
        for (var grown = true; grown; )
        {
            grown = false;
            foreach (var node in order)
            {
                var value = node.Output[0];
                if (made.Contains(value) || !taken.Contains(value) || index.IsOutput(value))
                    continue;
                if (node.OpType is "Add" or "Mul" && node.Input.Any(i => facts.Stored(i) is not null))
                    continue;
                // A gate between 0 and 1 needs no observation to be rounded.
                var gates = node.OpType == "Mul" ? node.Input.Where(i => IsGated(index, i) && !PooledVector.Is(index, i)).ToList() : [];
                var sources = node.Input.Where(i => facts.Stored(i) is null && !gates.Contains(i)).ToList();
                // A sum takes what was rounded for an integer kernel anyway.
                if (!sources.All(i => made.Contains(i) || node.OpType == "Add" && taken.Contains(i)) || !sources.Any(made.Contains))
                    continue;
                own.Add(node);
                made.UnionWith(gates);
                made.Add(value);
                grown = true;
            }
        }
    }

    private static bool IsGated(GraphIndex index, string value) =>
        !index.IsOutput(value) && index.Producer(value) is { } producer && OperatorKinds.IsGate(producer);
}
