using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Simplification;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Edits made one by one or in a batch give the same graph, and what is dead goes and nothing else.</summary>
public class GraphEditTests
{
    [Fact]
    public void Dead_nodes_go_with_what_only_they_used_and_the_rest_stays()
    {
        var then = new GraphProto { Name = "then" };
        then.Node.Add(Node("Relu", ["captured"], ["t"]));
        then.Node.Add(Node("Neg", ["t"], ["dead_inside"]));
        then.Output.Add(Value("t", DataType.Float));
        var branch = Node("If", ["c"], ["unused"], Subgraph("then_branch", then));
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1)
            .Input("c", DataType.Bool)
            .Weight("w", 4)
            .Weight("gone", 4)
            .Weight("given", 4)
            .With(
                Node("Add", ["x", "gone"], ["d0"]),
                Node("Relu", ["d0"], ["d1"]),
                Node("Mul", ["d0", "d1"], ["d2"]),
                Node("Add", ["x", "w"], ["captured"]),
                branch,
                Node("Split", ["x"], ["s0", "s1"]),
                Node("Print", ["x"], []),
                Node("Neg", ["s1"], ["y"])
            )
            .Output("y");
        model.Graph.Input.Add(Value("given", DataType.Float, 4));
        new ModelEdit(model).DropDead(default);
        Assert.Equal(["Add", "If", "Split", "Print", "Neg"], model.Graph.Node.Select(n => n.OpType));
        Assert.Equal(["w", "given"], model.Graph.Initializer.Select(t => t.Name));
        Assert.Equal("t", Assert.Single(then.Node).Output[0]);
    }

    [Theory]
    [InlineData(DataType.Float)]
    [InlineData(DataType.Float16)]
    public void Bounds_that_become_inputs_have_the_type_of_what_they_bound(DataType type)
    {
        var then = new GraphProto { Name = "then" };
        then.Node.Add(Clip("p", "t"));
        then.Output.Add(Value("t", type));
        var other = new GraphProto { Name = "else" };
        other.Node.Add(Node("Neg", ["p"], ["e"]));
        other.Output.Add(Value("e", type));
        var pads = new AttributeProto { Name = "pads", Type = AttributeProto.Types.AttributeType.Ints };
        pads.Ints.AddRange([0L, 1, 0, 1]);
        var model = OfOpset(9)
            .Input("x", type, 2, 4)
            .Input("c", DataType.Bool)
            .With(
                Clip("x", "k"),
                Node("Pad", ["k"], ["p"], pads, ModelEdit.Attribute("value", 0.5f)),
                Node("If", ["c"], ["y"], Subgraph("then_branch", then), Subgraph("else_branch", other))
            );
        model.Graph.Output.Add(Value("y", type, 2, 6));
        OpsetRaise.To11(new ModelEdit(model));
        using var session = new InferenceSession(Google.Protobuf.MessageExtensions.ToByteArray(model));
        Assert.Equal(3, model.Graph.Initializer.Count(t => t.DataType == (int)type));

        static NodeProto Clip(string from, string to) =>
            Node("Clip", [from], [to], ModelEdit.Attribute("min", -1f), ModelEdit.Attribute("max", 1f));
    }

    [Fact]
    public void Batched_and_single_edits_give_the_same_graph()
    {
        Assert.Equal(Edited(batched: false), Edited(batched: true));
        Assert.Throws<InvalidOperationException>(() =>
        {
            var edit = new ModelEdit(Chain());
            using var batch = edit.Batch();
            ModelEdit.Replace(edit.Roots[0], edit.Model.Graph.Node[1], []);
            edit.Model.Graph.Node.RemoveAt(0);
        });
    }

    private static ModelProto Edited(bool batched)
    {
        var model = Chain();
        var edit = new ModelEdit(model);
        var weights = Weight.Of(model);
        using (batched ? edit.Batch(weights.Select(w => ModelEdit.Outermost(w.Scope)).Distinct()) : null)
        {
            foreach (var w in weights)
            {
                ModelEdit.RemoveDefinition(w);
                var old = w.Uses[0].Node;
                ModelEdit.InsertFirst(
                    w.Scope,
                    [Node("Identity", [edit.AddConstant(w.Scope, w.Value + "_h", Tensor("", [1f], 1))], [w.Value])]
                );
                ModelEdit.Replace(w.Uses[0].Scope, old, [Node("Mul", [old.Input[0], w.Value], [old.Output[0] + "_m"]), old]);
                ModelEdit.InsertAfter(w.Uses[0].Scope, old, [Node("Neg", [old.Output[0]], [old.Output[0] + "_n"])]);
                ModelEdit.Replace(w.Uses[0].Scope, old, [Node("Abs", [old.Output[0] + "_m"], [old.Output[0]])]);
            }
        }
        return model;
    }

    // Weights as initializers, as Constant nodes, and in a function.
    private static ModelProto Chain()
    {
        var model = OfOpset(17, "f").Input("x0", DataType.Float, 1, 4);
        for (var i = 0; i < 6; i++)
        {
            if (i % 2 == 0)
                model.Weight($"w{i}", 4, 4);
            else
                model.With(Constant($"w{i}"));
            model.With(Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        }
        var function = new FunctionProto { Name = "Twice", Domain = "f" };
        function.Input.Add("a");
        function.Output.Add("c");
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 17 });
        function.Node.AddRange([Constant("v0"), Constant("v1"), Node("MatMul", ["a", "v0"], ["b"]), Node("MatMul", ["b", "v1"], ["c"])]);
        model.Functions.Add(function);
        return model.With(Node("f:Twice", ["x6"], ["y"])).Output("y");

        static NodeProto Constant(string name) =>
            Node(
                "Constant",
                [],
                [name],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = Tensor("", Random(name, 4, 4), 4, 4),
                }
            );
    }

    [Fact]
    public void Weights_of_equal_names_in_equal_scopes_are_numbered()
    {
        var model = OfOpset(17).Input("x", DataType.Float, 1, 4).Input("c", DataType.Bool);
        for (var i = 0; i < 4; i++)
        {
            var inner = new GraphProto { Name = "g" };
            inner.Initializer.Add(Tensor("w", Random($"{i}", 4, 4), 4, 4));
            inner.Node.Add(Node("MatMul", ["x", "w"], ["o"]));
            inner.Output.Add(Value("o", DataType.Float));
            var node = Node("If", ["c"], [$"y{i}"], Subgraph("then_branch", inner));
            node.Name = "if";
            model.With(node);
        }
        Assert.Equal(
            ["w", "if/then_branch/w", "if/then_branch/w#2", "if/then_branch/w#3"],
            Weight.Of(model.Output("y0")).Select(w => w.Name)
        );
    }

    [Fact]
    public void Weights_of_the_same_bytes_are_one_where_operators_of_one_kind_take_them()
    {
        var model = OfOpset(17).Input("x", DataType.Float, 1, 8).Input("i", DataType.Int64, 1);
        foreach (
            var (name, offset, rows) in new[]
            {
                ("a", 0, 8),
                ("b", 0, 8),
                ("table", 0, 8),
                ("other", 256, 8),
                ("flat", 0, 4),
                ("put_out", 0, 8),
            }
        )
        {
            var tensor = new TensorProto
            {
                Name = name,
                DataType = (int)DataType.Float,
                Dims = { rows, 64 / rows },
            };
            TensorRef.Point(tensor, "w.bin", offset, 256);
            model.Initializer(tensor);
        }
        model
            .With(
                Node("MatMul", ["x", "a"], ["y0"]),
                Node("MatMul", ["x", "b"], ["y1"]),
                Node("Gather", ["table", "i"], ["y2"]),
                Node("MatMul", ["x", "other"], ["y3"]),
                Node("MatMul", ["z", "flat"], ["y4"]),
                Node("MatMul", ["x", "put_out"], ["y5"])
            )
            .Output("put_out");
        ConstantMerging.MergeShared(new ModelEdit(model));
        Assert.Equal(["b", "table", "other", "flat", "put_out"], model.Graph.Initializer.Select(t => t.Name));
        Assert.Equal(["b", "b"], model.Graph.Node.Take(2).Select(n => n.Input[1]));
    }

    [Fact]
    public async Task Short_files_that_stand_for_endless_tensors_and_graphs_of_endless_objects_are_refused()
    {
        using var folder = new Folder();
        folder.Write("w.bin", new byte[1 << 20]);
        var model = OfOpset(17).Input("x", DataType.Float, 1, 512).Output("y");
        for (var i = 0; i < 5000; i++)
        {
            var tensor = new TensorProto
            {
                Name = $"w{i}",
                DataType = (int)DataType.Float,
                Dims = { 512, 512 },
            };
            TensorRef.Point(tensor, "w.bin", 0, 1 << 20);
            model.Initializer(tensor);
        }
        folder.Write("m.onnx", model.With(Node("MatMul", ["x", "w0"], ["y"])));
        Assert.Contains(
            "share no bytes",
            (await Assert.ThrowsAsync<BadInputException>(() => ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", default))).Message,
            StringComparison.Ordinal
        );
        var node = Node("Relu", ["x"], ["y"]);
        node.Attribute.AddRange(Enumerable.Repeat(new AttributeProto(), 600_000));
        folder.Write("m.onnx", OfOpset(17).Input("x", DataType.Float, 1).With(node).Output("y"));
        var before = GC.GetTotalAllocatedBytes();
        Assert.Contains(
            "256 MB of memory",
            (await Assert.ThrowsAsync<BadInputException>(() => ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", default))).Message,
            StringComparison.Ordinal
        );
        Assert.True(GC.GetTotalAllocatedBytes() - before < 64 << 20);
    }
}
