using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Casts of weights that are stored as float16 or bfloat16 to float. Behind the layout operators that follow, they are the last before
/// what uses the weight, and belong to its definition (<see cref="Weight.Cast"/>).
/// </summary>
public static class WideningCasts
{
    /// <summary>Whether a tensor is stored as float16 or bfloat16.</summary>
    internal static bool IsHalf(TensorProto tensor) => (DataType)tensor.DataType is DataType.Float16 or DataType.Bfloat16;

    /// <summary>Whether a node casts so.</summary>
    /// <param name="node">The node.</param>
    /// <param name="half">Whether a value is a constant that is stored as float16 or bfloat16, or follows from such.</param>
    internal static bool Is(NodeProto node, Func<string, bool> half) =>
        node is { OpType: "Cast", Domain: "", Input.Count: 1, Output.Count: 1 }
        && node.Attribute.Any(a => a.Name == "to" && a.I == (int)DataType.Float)
        && half(node.Input[0]);

    /// <summary>Exchanges each with the layout operators that alone follow it. Changes no value but those between the two.</summary>
    /// <param name="main">The scope of the main graph; constants must be initializers.</param>
    public static void MoveLast(GraphScope main)
    {
        foreach (var scope in main.All())
        {
            var halves = scope.Constants.Where(IsHalf).Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
            var casts = scope.Nodes.Where(n => Is(n, halves.Contains)).ToList();
            if (casts.Count == 0)
                continue;
            var moved = false;
            foreach (var cast in casts)
            {
                while (
                    scope.Index.OnlyConsumer(cast.Output[0]) is { } next
                    && OperatorKinds.IsRearrangement(next)
                    && next.Input[0] == cast.Output[0]
                )
                {
                    var (stored, between, last) = (cast.Input[0], cast.Output[0], next.Output[0]);
                    (next.Input[0], next.Output[0]) = (stored, between);
                    (cast.Input[0], cast.Output[0]) = (between, last);
                    scope.Forget();
                    moved = true;
                }
            }
            if (moved)
                Sort(scope);
        }
    }

    private static void Sort(GraphScope scope)
    {
        var order = GraphCheck.TopologicalOrder(scope.Nodes)!.Select(i => scope.Nodes[i]).ToList();
        scope.Nodes.Clear();
        scope.Nodes.AddRange(order);
        scope.Forget();
    }
}
