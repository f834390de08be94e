using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Writes what follows a global pool, one pixel a sample as in squeeze-and-excitation (Hu et al. 2018), as products of matrices:
/// 1 × 1 convolutions of one pixel spend their time on laying out their input. The numbers stay the same.
/// </summary>
public static class SqueezeExciteGemm
{
    private const long AxesAsInput = 13;

    /// <summary>Rewrites every GlobalAveragePool of two spatial axes that feeds nothing but 1 × 1 convolutions.</summary>
    /// <param name="edit">The edit.</param>
    /// <returns>How many convolutions became Gemm.</returns>
    public static int Apply(ModelEdit edit)
    {
        var products = 0;
        using var batch = edit.Batch();
        foreach (var scope in edit.Roots[0].All())
        {
            var index = scope.Index;
            var rewritten = new Dictionary<string, NodeProto>(StringComparer.Ordinal);
            foreach (var pool in scope.Nodes.Where(n => n is { OpType: "GlobalAveragePool", Domain: "" }).ToList())
            {
                var pooled = pool.Output[0];
                if (index.IsOutput(pooled) || !index.OwnConsumers(pooled).Any() || !index.OwnConsumers(pooled).All(IsProduct))
                    continue;
                var square = edit.FreshName(pooled + "_s");
                rewritten[pooled] = Axes("Squeeze", edit, scope, square, pooled);
                ModelEdit.Replace(scope, pool, [ModelEdit.Node("GlobalAveragePool", [pool.Input[0]], [square]), rewritten[pooled]]);
                products += Flatten(edit, scope, pooled, rewritten);
            }
        }
        return products;
    }

    // The index is that of the graph before the rewrite; nodes that took the place of others are in the dictionary.
    private static int Flatten(ModelEdit edit, GraphScope scope, string pooled, Dictionary<string, NodeProto> rewritten)
    {
        var (count, index) = (0, scope.Index);
        var flat = new Queue<string>([pooled]);
        while (flat.TryDequeue(out var value))
        {
            var products = new List<NodeProto>();
            foreach (var node in index.OwnConsumers(value))
            {
                if (!IsProduct(node))
                {
                    if (OperatorKinds.IsFunction(node))
                        flat.Enqueue(node.Output[0]);
                    continue;
                }
                var matrix = edit.FreshName(node.Input[1] + "_m");
                var bias = node.Input.Count > 2 && node.Input[2].Length > 0 ? new[] { node.Input[2] } : [];
                var shape = ModelEdit.Node("Reshape", [node.Input[1], edit.Int64s(scope, 0, -1)], [matrix]);
                products.Add(
                    rewritten[node.Output[0]] = ModelEdit.Node(
                        "Gemm",
                        [value, matrix, .. bias],
                        [node.Output[0]],
                        ModelEdit.Attribute("transB", 1L)
                    )
                );
                ModelEdit.Replace(scope, node, [shape, products[^1]]);
                count++;
                flat.Enqueue(node.Output[0]);
            }
            var others = index.OwnConsumers(value).Where(n => !IsProduct(n) && !OperatorKinds.IsFunction(n)).ToList();
            if (others.Count == 0 && !index.IsOutput(value))
                continue;
            // What else reads the value wants its two axes of length one, under the value's own name where that is an output.
            var producer = rewritten.GetValueOrDefault(value) ?? index.Producer(value)!;
            var vector = edit.FreshName(value + "_v");
            producer.Output[producer.Output.IndexOf(value)] = vector;
            foreach (var n in index.OwnConsumers(value).Except(others, ReferenceEqualityComparer.Instance).Cast<NodeProto>())
                Rename(n, value, vector);
            foreach (var n in products)
                n.Input[0] = vector;
            ModelEdit.Replace(scope, producer, [producer, Axes("Unsqueeze", edit, scope, vector, value)]);
        }
        return count;
    }

    private static void Rename(NodeProto node, string from, string to)
    {
        for (var i = 0; i < node.Input.Count; i++)
            if (node.Input[i] == from)
                node.Input[i] = to;
    }

    private static NodeProto Axes(string op, ModelEdit edit, GraphScope scope, string input, string output) =>
        scope.Opset >= AxesAsInput
            ? ModelEdit.Node(op, [input, edit.Int64s(scope, 2, 3)], [output])
            : ModelEdit.Node(op, [input], [output], ModelEdit.Attribute("axes", [2L, 3L]));

    // Of one pixel the stride does not matter; padding would add pixels.
    private static bool IsProduct(NodeProto node)
    {
        if (node is not { OpType: "Conv", Domain: "" })
            return false;
        var kernel = node.Attribute.FirstOrDefault(a => a.Name == "kernel_shape")?.Ints;
        return kernel is { Count: 2 }
            && kernel.All(k => k == 1)
            && (node.Attribute.FirstOrDefault(a => a.Name == "group")?.I ?? 1) == 1
            && (node.Attribute.FirstOrDefault(a => a.Name == "pads")?.Ints.All(p => p == 0) ?? true);
    }
}
