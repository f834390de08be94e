using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Changes to nodes: their inputs and outputs, their operator, their place, what lies between two of them.</summary>
internal static class NodeMutations
{
    private static readonly string[] Operators =
    [
        "Relu",
        "Sigmoid",
        "Identity",
        "Transpose",
        "Concat",
        "Constant",
        "If",
        "Loop",
        "MatMul",
        "Gemm",
        "Conv",
        "ConvTranspose",
        "BatchNormalization",
        "Add",
        "Mul",
        "Div",
        "Sub",
        "Gather",
        "LSTM",
        "Reshape",
        "Softmax",
        "LayerNormalization",
        "Clip",
        "HardSigmoid",
        "AveragePool",
        "GlobalAveragePool",
        "Squeeze",
        "Shape",
        "QuantizeLinear",
        "Nonsense",
    ];

    private static readonly Dictionary<string, string[]> Alike = new(StringComparer.Ordinal)
    {
        ["Relu"] = ["Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Identity", "Neg", "Exp", "Sqrt", "Log", "Elu"],
        ["Add"] = ["Mul", "Sub", "Div", "Pow", "Max", "Min"],
        ["Mul"] = ["Add", "Div", "Sub", "Max"],
        ["MatMul"] = ["Gemm", "Add", "MatMulInteger"],
        ["Gemm"] = ["MatMul", "Add"],
        ["Conv"] = ["ConvTranspose", "ConvInteger", "MatMul"],
        ["Sigmoid"] = ["Relu", "Exp", "Log", "Softmax"],
        ["MaxPool"] = ["AveragePool", "GlobalMaxPool"],
        ["LSTM"] = ["GRU", "RNN"],
        ["Softmax"] = ["LogSoftmax", "Hardmax", "Relu"],
        ["Clip"] = ["Identity", "Relu"],
        ["Reshape"] = ["Expand", "Tile"],
        ["Div"] = ["Mul", "Pow"],
        ["Pow"] = ["Div", "Mul"],
        ["Sqrt"] = ["Log", "Exp", "Reciprocal"],
        ["ReduceMean"] = ["ReduceSum", "ReduceMax"],
        ["GlobalAveragePool"] = ["GlobalMaxPool"],
        ["Sub"] = ["Div", "Add"],
    };

    public static readonly MutationRecipe[] All =
    [
        new("input-rewired", (m, r) => OfInput(m, r, (g, n, i) => n.Input[i] = r.Of(g.Node).Output.FirstOrDefault() ?? "")),
        new(
            "input-is-a-weight",
            (m, r) => OfInput(m, r, (g, n, i) => g.Initializer.Count == 0 ? null : n.Input[i] = r.Of(g.Initializer).Name)
        ),
        new("weight-exchanged", (m, r) => Exchange(r.Graph(m), r)),
        new(
            "input-dropped",
            (m, r) =>
                OfInput(
                    m,
                    r,
                    (_, n, i) =>
                    {
                        n.Input.RemoveAt(i);
                        return $"{i}";
                    }
                )
        ),
        new("input-emptied", (m, r) => OfInput(m, r, (_, n, i) => $"{n.Input[i] = ""}{i}")),
        new(
            "input-repeated",
            (m, r) =>
                OfInput(
                    m,
                    r,
                    (_, n, i) =>
                    {
                        n.Input.Add(n.Input[i]);
                        return n.Input[i];
                    }
                )
        ),
        new(
            "inputs-exchanged",
            (m, r) =>
                OfInput(m, r, (_, n, i) => n.Input.Count < 2 ? null : $"{((n.Input[0], n.Input[^1]) = (n.Input[^1], n.Input[0])).Item1}")
        ),
        new("operator", (m, r) => r.Node(m) is { } n ? $"{n.OpType} → {n.OpType = r.Of(Operators)}" : null),
        new(
            "operator-alike",
            (m, r) => r.Node(m, n => Alike.ContainsKey(n.OpType)) is { } n ? $"{n.OpType} → {n.OpType = r.Of(Alike[n.OpType])}" : null
        ),
        new(
            "domain",
            (m, r) => r.Node(m) is { } n ? $"{n.OpType} of '{n.Domain = r.Of(["ai.onnx", "com.microsoft", "none", "ai.onnx.ml"])}'" : null
        ),
        new("node-again", (m, r) => Again(r.Graph(m), r, r.Next(4) > 0)),
        new("node-removed", (m, r) => Remove(r.Graph(m), r, false)),
        new("node-bypassed", (m, r) => Remove(r.Graph(m), r, true)),
        new("nodes-reordered", (m, r) => Reorder(r.Graph(m), r)),
        new("output-dropped", (m, r) => r.Node(m, n => n.Output.Count > 0) is { } n ? Drop(n) : null),
        new("output-added", (m, r) => r.Node(m) is { } n ? Add(n.Output, $"more_{r.Next(1000)}", n.OpType) : null),
        new("between", (m, r) => Between(r.Graph(m), r, false)),
        new("between-weight", (m, r) => Between(r.Graph(m), r, true)),
        new("weight-as-constant-node", (m, r) => AsConstant(r.Graph(m), r)),
        new("quantized-value", (m, r) => Quantized(r.Graph(m), r)),
    ];

    private static string? OfInput(ModelProto model, Random random, Func<GraphProto, NodeProto, int, string?> change)
    {
        var graph = random.Graph(model);
        var nodes = graph.Node.Where(n => n.Input.Count > 0).ToList();
        if (nodes.Count == 0)
            return null;
        var node = random.Of(nodes);
        var at = random.Next(node.Input.Count);
        return change(graph, node, at) is { } done ? $"{node.OpType} '{node.Output.FirstOrDefault()}' input {at}: {done}" : null;
    }

    private static string Add(Google.Protobuf.Collections.RepeatedField<string> outputs, string name, string op)
    {
        outputs.Add(name);
        return op;
    }

    private static string Drop(NodeProto node)
    {
        node.Output.RemoveAt(node.Output.Count - 1);
        return node.OpType;
    }

    // Two nodes of one operator take each other's weight, or both take one.
    private static string? Exchange(GraphProto graph, Random random)
    {
        var nodes = graph.Node.Where(n => n.Input.Count > 1 && n.OpType is "Conv" or "MatMul" or "Gemm" or "LSTM").ToList();
        if (nodes.Count < 2)
            return null;
        var (a, b) = (random.Of(nodes), random.Of(nodes));
        var shared = random.Next(2) == 0;
        (a.Input[1], b.Input[1]) = (b.Input[1], shared ? b.Input[1] : a.Input[1]);
        return $"{a.Output[0]} and {b.Output[0]}{(shared ? " share one" : "")}";
    }

    private static string? Again(GraphProto graph, Random random, bool renamed)
    {
        if (graph.Node.Count == 0)
            return null;
        var at = random.Next(graph.Node.Count);
        var copy = graph.Node[at].Clone();
        for (var i = 0; renamed && i < copy.Output.Count; i++)
            if (copy.Output[i].Length > 0)
                copy.Output[i] += "_again";
        graph.Node.Insert(at + 1, copy);
        if (renamed && random.Next(2) == 0 && graph.Node.Count > at + 2)
            for (var i = 0; i < copy.Output.Count; i++)
                Choice.Redirect(new GraphProto { Node = { graph.Node.Skip(at + 2).Take(1) } }, graph.Node[at].Output[i], copy.Output[i]);
        return copy.OpType;
    }

    private static string? Remove(GraphProto graph, Random random, bool bypass)
    {
        var nodes = graph.Node.Where(n => !bypass || n.Input.Count > 0 && n.Output.Count > 0).ToList();
        if (nodes.Count == 0)
            return null;
        var node = random.Of(nodes);
        graph.Node.Remove(node);
        if (bypass)
            Choice.Redirect(graph, node.Output[0], node.Input[0]);
        return node.OpType;
    }

    private static string? Reorder(GraphProto graph, Random random)
    {
        if (graph.Node.Count < 2)
            return null;
        var nodes = graph.Node.ToArray();
        if (random.Next(2) == 0)
            Array.Reverse(nodes);
        else
            random.Shuffle(nodes);
        graph.Node.Clear();
        graph.Node.AddRange(nodes);
        return "all";
    }

    private static string? Between(GraphProto graph, Random random, bool weight)
    {
        var weights = graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        var uses = graph
            .Node.SelectMany(n =>
                Enumerable
                    .Range(0, n.Input.Count)
                    .Where(i => n.Input[i].Length > 0 && weights.Contains(n.Input[i]) == weight)
                    .Select(i => (n, i))
            )
            .ToList();
        if (uses.Count == 0)
            return null;
        var (node, at) = random.Of(uses);
        var (from, to) = (node.Input[at], $"between_{random.Next(1000)}");
        NodeProto[] nodes = random.Next(8) switch
        {
            0 => [ModelEdit.Node("Identity", [from], [to])],
            1 => [ModelEdit.Node("Transpose", [from], [to + "t"]), ModelEdit.Node("Transpose", [to + "t"], [to])],
            2 => [ModelEdit.Node("Transpose", [from], [to])],
            3 =>
            [
                ModelEdit.Node("Cast", [from], [to + "c"], ModelEdit.Attribute("to", (long)DataType.Float16)),
                ModelEdit.Node("Cast", [to + "c"], [to], ModelEdit.Attribute("to", (long)DataType.Float)),
            ],
            4 => [ModelEdit.Node("Cast", [from], [to], ModelEdit.Attribute("to", (long)DataType.Double))],
            5 => [ModelEdit.Node("Neg", [from], [to + "n"]), ModelEdit.Node("Neg", [to + "n"], [to])],
            6 => [ModelEdit.Node("Dropout", [from], [to])],
            _ => [ModelEdit.Node("Shape", [from], [to + "s"]), ModelEdit.Node("Reshape", [from, to + "s"], [to])],
        };
        node.Input[at] = to;
        var index = graph.Node.IndexOf(node);
        for (var i = 0; i < nodes.Length; i++)
            graph.Node.Insert(index + i, nodes[i]);
        return $"{string.Join(',', nodes.Select(n => n.OpType))} before {node.OpType} '{node.Output.FirstOrDefault()}' input {at}";
    }

    private static string? AsConstant(GraphProto graph, Random random)
    {
        if (graph.Initializer.Count == 0)
            return null;
        var t = random.Of(graph.Initializer);
        graph.Initializer.Remove(t);
        graph.Node.Insert(
            0,
            ModelEdit.Node(
                "Constant",
                [],
                [t.Name],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = t,
                }
            )
        );
        return t.Name;
    }

    private static string? Quantized(GraphProto graph, Random random)
    {
        var nodes = graph
            .Node.Where(n => n.Output.Count > 0 && n.OpType is "Conv" or "MatMul" or "Gemm" or "Relu" or "Add" or "Mul")
            .ToList();
        if (nodes.Count == 0)
            return null;
        var node = random.Of(nodes);
        var (value, id) = (node.Output[0], $"q{random.Next(1000)}");
        var scale = random.Of([0.05f, 1f, 0f, -0.1f, float.NaN, float.PositiveInfinity, 1e-38f]);
        graph.Initializer.Add(TestModels.Tensor(id + "_scale", [scale]));
        graph.Initializer.Add(
            TestModels.Tensor(id + "_zero", random.Of([DataType.Uint8, DataType.Int8]), new byte[] { (byte)random.Next(256) })
        );
        var index = graph.Node.IndexOf(node) + 1;
        node.Output[0] = id;
        graph.Node.Insert(index, ModelEdit.Node("QuantizeLinear", [id, id + "_scale", id + "_zero"], [id + "_q"]));
        graph.Node.Insert(index + 1, ModelEdit.Node("DequantizeLinear", [id + "_q", id + "_scale", id + "_zero"], [value]));
        return $"'{value}' with scale {scale}";
    }
}
