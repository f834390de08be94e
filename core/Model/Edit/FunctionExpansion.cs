using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// How many nodes a model has once its functions are inlined, as every runtime does (ONNX IR, "Functions"): a few kilobytes of functions
/// that call each other twice grow to billions.
/// </summary>
public static class FunctionExpansion
{
    /// <summary>Most nodes of an expanded model.</summary>
    public const long MostNodes = 1_000_000;

    /// <summary>Checks that a model's functions call no function in a circle, and that the expanded model is of a possible size.</summary>
    /// <param name="path">How to name the model.</param>
    /// <param name="model">The model.</param>
    /// <exception cref="BadInputException">They do, or it is not.</exception>
    public static void Check(string path, ModelProto model)
    {
        if (model.Functions.Count == 0)
            return;
        var functions = new Dictionary<(string, string, string), FunctionProto>();
        foreach (var f in model.Functions)
            functions[(f.Domain, f.Name, f.Overload)] = f;
        // Null while a function is being counted: meeting it again is a circle.
        var counts = new Dictionary<FunctionProto, long?>(ReferenceEqualityComparer.Instance);
        var total = Count(model.Graph.Node);
        if (total > MostNodes)
        {
            throw new BadInputException(
                $"{path}: its functions expand to more than {MostNodes:N0} nodes; "
                    + "export the model without nested functions, or inline them first."
            );
        }

        long Count(IEnumerable<NodeProto> nodes)
        {
            long sum = 0;
            foreach (var node in nodes)
            {
                sum += functions.TryGetValue((node.Domain, node.OpType, node.Overload), out var f) ? CountOf(f) : 1;
                foreach (var graph in GraphScope.Subgraphs(node))
                    sum += Count(graph.Node);
                if (sum > MostNodes)
                    return MostNodes + 1;
            }
            return sum;
        }

        long CountOf(FunctionProto function)
        {
            if (counts.TryGetValue(function, out var known))
            {
                return known
                    ?? throw new BadInputException(
                        $"{path}: the function '{function.Domain}:{function.Name}' calls itself; export the model again."
                    );
            }
            counts[function] = null;
            var count = Count(function.Node);
            counts[function] = count;
            return count;
        }
    }
}
