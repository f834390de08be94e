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
    private static readonly HashSet<string> Elementwise =
    [
        "Relu",
        "HardSigmoid",
        "Sigmoid",
        "Clip",
        "LeakyRelu",
        "Tanh",
        "HardSwish",
        "Elu",
    ];

    /// <summary>Rewrites every GlobalAveragePool of two spatial axes that feeds nothing but 1 × 1 convolutions.</summary>
    /// <param name="edit">The edit.</param>
    /// <returns>How many convolutions became Gemm.</returns>
    public static int Apply(ModelEdit edit)
    {
        var rewritten = 0;
        using var batch = edit.Batch();
        foreach (var scope in edit.Roots[0].All())
        {
            var producers = new Dictionary<string, NodeProto>(StringComparer.Ordinal);
            foreach (var n in scope.Nodes)
            foreach (var o in n.Output)
                producers.TryAdd(o, n);
            var outputs = scope.Graph!.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
            var users = scope
                .Nodes.SelectMany(n => n.Input.Concat(GraphScope.Captures(n)).Distinct().Select(i => (i, n)))
                .ToLookup(p => p.i, p => p.n, StringComparer.Ordinal);
            foreach (var pool in scope.Nodes.Where(n => n is { OpType: "GlobalAveragePool", Domain: "" }).ToList())
            {
                if (outputs.Contains(pool.Output[0]) || !users[pool.Output[0]].Any() || !users[pool.Output[0]].All(IsProduct))
                    continue;
                var square = edit.FreshName(pool.Output[0] + "_s");
                producers[pool.Output[0]] = Axes("Squeeze", edit, scope, square, pool.Output[0]);
                ModelEdit.Replace(scope, pool, [ModelEdit.Node("GlobalAveragePool", [pool.Input[0]], [square]), producers[pool.Output[0]]]);
                rewritten += Flatten(edit, scope, pool.Output[0], producers, users, outputs);
            }
        }
        return rewritten;
    }

    private static int Flatten(
        ModelEdit edit,
        GraphScope scope,
        string pooled,
        Dictionary<string, NodeProto> producers,
        ILookup<string, NodeProto> users,
        HashSet<string> outputs
    )
    {
        var rewritten = 0;
        var flat = new Queue<string>([pooled]);
        while (flat.TryDequeue(out var value))
        {
            var products = new List<NodeProto>();
            foreach (var node in users[value])
            {
                if (!IsProduct(node))
                {
                    if (node.Domain.Length == 0 && Elementwise.Contains(node.OpType))
                        flat.Enqueue(node.Output[0]);
                    continue;
                }
                var matrix = edit.FreshName(node.Input[1] + "_m");
                var bias = node.Input.Count > 2 && node.Input[2].Length > 0 ? new[] { node.Input[2] } : [];
                var shape = ModelEdit.Node("Reshape", [node.Input[1], edit.Int64s(scope, 0, -1)], [matrix]);
                products.Add(
                    producers[node.Output[0]] = ModelEdit.Node(
                        "Gemm",
                        [value, matrix, .. bias],
                        [node.Output[0]],
                        ModelEdit.Attribute("transB", 1L)
                    )
                );
                ModelEdit.Replace(scope, node, [shape, products[^1]]);
                rewritten++;
                flat.Enqueue(node.Output[0]);
            }
            var others = users[value].Where(n => !IsProduct(n) && !(n.Domain.Length == 0 && Elementwise.Contains(n.OpType))).ToList();
            if (others.Count == 0 && !outputs.Contains(value))
                continue;
            // What else reads the value wants its two axes of length one, under the value's own name where that is an output.
            var producer = producers[value];
            var vector = edit.FreshName(value + "_v");
            producer.Output[producer.Output.IndexOf(value)] = vector;
            foreach (var n in users[value].Except(others, ReferenceEqualityComparer.Instance).Cast<NodeProto>())
                Rename(n, value, vector);
            foreach (var n in products)
                n.Input[0] = vector;
            ModelEdit.Replace(scope, producer, [producer, Axes("Unsqueeze", edit, scope, vector, value)]);
        }
        return rewritten;
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
