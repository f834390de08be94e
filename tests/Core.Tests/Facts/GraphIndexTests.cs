using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Who takes a value: in the graph itself, in its subgraphs, alone or not.</summary>
public class GraphIndexTests
{
    [Fact]
    public void A_subgraph_takes_a_value_for_the_node_that_holds_it()
    {
        var index = Index(Node("Relu", ["x"], ["a"]), If("a", "b"), Node("Neg", ["b"], ["y"]));
        Assert.Equal(["If", "Abs", "Abs"], index.Consumers("a").Select(n => n.OpType));
        Assert.Equal(["If"], index.OwnConsumers("a").Select(n => n.OpType));
        Assert.Null(index.OnlyConsumer("a"));
        Assert.Equal("Neg", index.OnlyConsumer("b")!.OpType);
    }

    [Fact]
    public void A_value_that_is_taken_twice_or_put_out_has_no_only_consumer()
    {
        var index = Index(Node("Relu", ["x"], ["a"]), Node("Mul", ["a", "a"], ["b"]), Node("Abs", ["b"], ["y"]), Node("Neg", ["y"], ["z"]));
        Assert.Equal("Relu", index.OnlyConsumer("x")!.OpType);
        Assert.Null(index.OnlyConsumer("a"));
        Assert.Equal("Abs", index.OnlyConsumer("b")!.OpType);
        Assert.Null(index.OnlyConsumer("y"));
        Assert.Null(index.OnlyConsumer("z"));
    }

    [Fact]
    public void A_subgraph_that_alone_takes_a_name_of_its_own_is_no_consumer_of_the_outer_one()
    {
        var inner = Branch(Node("Abs", ["x"], ["a"]), Node("Neg", ["a"], ["o"]));
        var node = Node("If", ["c"], ["y"], Subgraph("then_branch", inner), Subgraph("else_branch", inner.Clone()));
        Assert.Null(Index(Node("Relu", ["x"], ["a"]), node).OnlyConsumer("a"));
    }

    [Fact]
    public void Outputs_that_are_left_out_are_no_values()
    {
        var index = Index(Node("LSTM", ["x", "w", "r"], ["", "a"]), Node("LSTM", ["x", "w", "r"], ["", "y"]));
        Assert.Equal("a", index.Producer("a")!.Output[1]);
        Assert.Null(index.Producer(""));
    }

    private static GraphIndex Index(params NodeProto[] nodes) =>
        new GraphFacts(OfOpset(17).Input("x", DataType.Float, 2).Input("c", DataType.Bool).With(nodes).Output("y")).Main.Index;

    private static NodeProto If(string takes, string makes) =>
        Node(
            "If",
            ["c"],
            [makes],
            Subgraph("then_branch", Branch(Node("Abs", [takes], ["t"]))),
            Subgraph("else_branch", Branch(Node("Abs", [takes], ["e"])))
        );

    private static GraphProto Branch(params NodeProto[] nodes)
    {
        var graph = new GraphProto { Name = "branch" };
        graph.Node.AddRange(nodes);
        graph.Output.Add(new ValueInfoProto { Name = nodes[^1].Output[0] });
        return graph;
    }
}
