using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Changes to graphs: their inputs, outputs and initializers, shapes that are wrong, subgraphs.</summary>
internal static class GraphMutations
{
    public static readonly MutationRecipe[] All =
    [
        new(
            "input-shape",
            (m, r) =>
                OfInput(
                    m,
                    r,
                    v =>
                    {
                        var shape = v.Type?.TensorType?.Shape;
                        if (shape is null || shape.Dim.Count == 0)
                            return null;
                        var at = r.Next(shape.Dim.Count);
                        var dim = shape.Dim[at] = new TensorShapeProto.Types.Dimension();
                        if (r.Next(3) == 0)
                            dim.DimParam = r.Of(["n", "batch", "", "height"]);
                        else if (r.Next(6) > 0)
                            dim.DimValue = r.Of<long>([0, 1, 2, 3, 5, 33, -1, 1L << 33, long.MaxValue]);
                        return $"dim {at}: {dim}";
                    }
                )
        ),
        new(
            "input-rank",
            (m, r) =>
                OfInput(
                    m,
                    r,
                    v =>
                    {
                        if (v.Type?.TensorType is not { } type)
                            return null;
                        if (r.Next(3) == 0 || type.Shape is null)
                            type.Shape = null;
                        else if (r.Next(2) == 0 && type.Shape.Dim.Count > 0)
                            type.Shape.Dim.RemoveAt(0);
                        else
                            type.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimValue = 1 });
                        return $"rank {type.Shape?.Dim.Count ?? -1}";
                    }
                )
        ),
        new(
            "input-type",
            (m, r) => OfInput(m, r, v => v.Type?.TensorType is { } type ? $"type {type.ElemType = r.Next(24)}" : $"{v.Type = null}")
        ),
        new(
            "input-no-tensor",
            (m, r) =>
                OfInput(
                    m,
                    r,
                    v =>
                    {
                        v.Type = r.Next(2) == 0 ? new TypeProto() : new TypeProto { SequenceType = new() { ElemType = v.Type } };
                        return "is none";
                    }
                )
        ),
        new("input-renamed", (m, r) => OfInput(m, r, v => Rename(m.Graph, v, r.Next(3) > 0))),
        new("output-renamed", (m, r) => m.Graph.Output.Count == 0 ? null : RenameOutput(m.Graph, r.Of(m.Graph.Output), r.Next(3) > 0)),
        new(
            "input-unused",
            (m, r) =>
                Add(
                    m.Graph.Input,
                    TestModels.Value("unused", r.Of([DataType.Float, DataType.Int64, DataType.String, DataType.Bool]), r.Next(3), "n")
                )
        ),
        new("input-is-initializer", (m, r) => m.Graph.Initializer.Count == 0 ? null : AsInput(m.Graph, r.Of(m.Graph.Initializer))),
        new(
            "graph-output-added",
            (m, r) => m.Graph.Node.Count == 0 ? null : Add(m.Graph.Output, Untyped(r.Of(m.Graph.Node).Output.FirstOrDefault() ?? ""))
        ),
        new(
            "weight-is-output",
            (m, r) => m.Graph.Initializer.Count == 0 ? null : Add(m.Graph.Output, Untyped(r.Of(m.Graph.Initializer).Name))
        ),
        new("graph-output-dropped", (m, r) => m.Graph.Output.Count == 0 ? null : $"{m.Graph.Output.Remove(r.Of(m.Graph.Output))}"),
        new("output-shape", (m, r) => m.Graph.Output.Count == 0 ? null : Lie(r.Of(m.Graph.Output), r)),
        new(
            "value-info-wrong",
            (m, r) =>
            {
                var graph = r.Graph(m);
                var named = graph.Node.SelectMany(n => n.Output).Where(o => o.Length > 0).ToList();
                return named.Count == 0
                    ? null
                    : Add(
                        graph.ValueInfo,
                        TestModels.Value(
                            r.Of(named),
                            r.Of([DataType.Float, DataType.Int64]),
                            r.Of<object>([1, 2, -1, 1000, "n"]),
                            r.Of<object>([1, 3, "m"])
                        )
                    );
            }
        ),
        new(
            "initializer-dropped",
            (m, r) => r.Graph(m) is { Initializer.Count: > 0 } g ? $"{g.Initializer.Remove(r.Of(g.Initializer))}" : null
        ),
        new(
            "initializer-twice",
            (m, r) => r.Graph(m) is { Initializer.Count: > 0 } g ? Twice(g, r.Of(g.Initializer), r.Next(3) > 0) : null
        ),
        new("initializer-sparse", (m, r) => r.Graph(m) is { Initializer.Count: > 0 } g ? Sparse(g, r.Of(g.Initializer)) : null),
        new(
            "branches-exchanged",
            (m, r) =>
                r.Node(m, n => n.OpType == "If" && n.Attribute.Count == 2) is { } n
                    ? $"{((n.Attribute[0].G, n.Attribute[1].G) = (n.Attribute[1].G, n.Attribute[0].G)).Item1.Name}"
                    : null
        ),
        new(
            "branch-emptied",
            (m, r) =>
                r.Node(m, n => n.Attribute.Any(a => a.G is not null)) is { } n
                    ? Empty(r.Of(n.Attribute.Where(a => a.G is not null).ToList()).G, r)
                    : null
        ),
        new("into-if", (m, r) => IntoIf(m.Graph, r)),
    ];

    private static string? OfInput(ModelProto model, Random random, Func<ValueInfoProto, string?> change)
    {
        if (model.Graph.Input.Count == 0)
            return null;
        var input = random.Of(model.Graph.Input);
        var name = input.Name;
        return change(input) is { } done ? $"'{name}' {done}" : null;
    }

    private static string Add(Google.Protobuf.Collections.RepeatedField<ValueInfoProto> values, ValueInfoProto value)
    {
        values.Add(value);
        return value.Name;
    }

    private static ValueInfoProto Untyped(string name) =>
        new()
        {
            Name = name,
            Type = new TypeProto { TensorType = new() { ElemType = (int)DataType.Float } },
        };

    private static string Rename(GraphProto graph, ValueInfoProto input, bool everywhere)
    {
        var to = input.Name + " \u001b[0m<b>'x'";
        if (everywhere)
            Choice.Redirect(graph, input.Name, to);
        return $"→ {input.Name = to}";
    }

    private static string RenameOutput(GraphProto graph, ValueInfoProto output, bool everywhere)
    {
        var from = output.Name;
        output.Name = "out/../put";
        if (!everywhere)
            return output.Name;
        Choice.Redirect(graph, from, output.Name);
        foreach (var n in graph.Node)
            for (var i = 0; i < n.Output.Count; i++)
                if (n.Output[i] == from)
                    n.Output[i] = output.Name;
        return $"{from} everywhere";
    }

    private static string AsInput(GraphProto graph, TensorProto tensor) =>
        Add(graph.Input, TestModels.Value(tensor.Name, (DataType)tensor.DataType, [.. tensor.Dims.Cast<object>()]));

    private static string? Lie(ValueInfoProto value, Random random)
    {
        value.Type = TestModels
            .Value("", random.Of([DataType.Float, DataType.Int64]), random.Of<object>([1, 7, -1, "n"]), random.Of<object>([3, "m"]))
            .Type;
        return value.Name;
    }

    private static string Twice(GraphProto graph, TensorProto tensor, bool renamed)
    {
        var copy = tensor.Clone();
        if (renamed)
            copy.Name += "_twice";
        graph.Initializer.Add(copy);
        return copy.Name;
    }

    private static string Sparse(GraphProto graph, TensorProto tensor)
    {
        var sparse = new SparseTensorProto
        {
            Values = TestModels.Tensor(tensor.Name, [1f], 1),
            Indices = TestModels.Tensor("", DataType.Int64, new byte[8], 1),
        };
        sparse.Dims.AddRange(tensor.Dims);
        graph.Initializer.Remove(tensor);
        graph.SparseInitializer.Add(sparse);
        return tensor.Name;
    }

    private static string Empty(GraphProto graph, Random random)
    {
        if (random.Next(2) == 0)
            graph.Node.Clear();
        else
            graph.Output.Clear();
        return graph.Name;
    }

    // A node moves into both branches of an If, so that what it takes is captured.
    private static string? IntoIf(GraphProto graph, Random random)
    {
        var nodes = graph.Node.Where(n => n.Output.Count == 1 && n.Output[0].Length > 0 && n.Attribute.All(a => a.G is null)).ToList();
        if (nodes.Count == 0)
            return null;
        var node = random.Of(nodes);
        var choose = new NodeProto
        {
            OpType = "If",
            Input = { "always" },
            Output = { node.Output[0] },
        };
        foreach (var name in new[] { "then_branch", "else_branch" })
        {
            var inner = node.Clone();
            inner.Output[0] = name + "_y";
            var branch = new GraphProto
            {
                Name = name,
                Node = { inner },
                Output = { Untyped(inner.Output[0]) },
            };
            choose.Attribute.Add(TestModels.Subgraph(name, branch));
        }
        graph.Node[graph.Node.IndexOf(node)] = choose;
        graph.Initializer.Add(TestModels.Tensor("always", DataType.Bool, new byte[] { (byte)random.Next(2) }));
        return node.OpType;
    }
}
