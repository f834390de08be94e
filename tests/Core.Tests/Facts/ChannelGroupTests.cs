using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Each way in which channels are coupled, on a graph by hand.</summary>
public class ChannelGroupTests
{
    private static readonly AttributeProto Pads = ModelEdit.Attribute("pads", [1L, 1, 1, 1]);

    [Fact]
    public void A_convolution_is_coupled_with_the_next_through_a_Relu()
    {
        var g = Groups(
            Image(4).Weight("a", 8, 4, 3, 3).Weight("b", 8).Weight("c", 2, 8, 1, 1),
            Node("Conv", ["x", "a", "b"], ["p"], Pads),
            Node("Relu", ["p"], ["q"]),
            Node("Conv", ["q", "c"], ["y"])
        );
        Assert.Equal(["8 a.0+b.0*c.1-"], Open(g));
        Assert.Equal(["2 c.0+: an output of the model, 'y'", "4 a.1-: an input of the model, 'x'"], Closed(g));
    }

    [Fact]
    public void A_residual_sum_couples_all_that_make_it()
    {
        var g = Groups(
            Image(4).Weight("a", 8, 4, 1, 1).Weight("b", 6, 8, 1, 1).Weight("c", 8, 6, 1, 1).Weight("d", 2, 8, 1, 1),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Conv", ["p", "b"], ["q"]),
            Node("Conv", ["q", "c"], ["r"]),
            Node("Add", ["p", "r"], ["s"]),
            Node("Conv", ["s", "d"], ["y"])
        );
        Assert.Equal(["6 b.0+c.1-", "8 a.0+b.1-c.0+d.1-"], Open(g));
    }

    [Fact]
    public void Concat_puts_channels_behind_others()
    {
        var g = Groups(
            Image(4).Weight("a", 3, 4, 1, 1).Weight("b", 5, 4, 1, 1).Weight("c", 2, 8, 1, 1),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Conv", ["x", "b"], ["q"]),
            Node("Concat", ["p", "q"], ["r"], ModelEdit.Attribute("axis", 1L)),
            Node("Conv", ["r", "c"], ["y"])
        );
        Assert.Equal(["3 a.0+c.1-", "5 b.0+c.1-"], Open(g));
        var behind = g.All.Single(m => m.Units == 5).Members.Single(m => m.Name == "c");
        Assert.Equal([3L, 4, 5, 6, 7], Enumerable.Range(0, 5).SelectMany(behind.Indices));
    }

    [Fact]
    public void Split_halves_that_meet_are_one_group_with_two_rows_a_unit()
    {
        var g = Groups(
            Image(4).Weight("a", 12, 4, 1, 1).Weight("b", 2, 6, 1, 1),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Split", ["p"], ["q", "r"], ModelEdit.Attribute("axis", 1L)),
            Node("Sigmoid", ["r"], ["s"]),
            Node("Mul", ["q", "s"], ["t"]),
            Node("Conv", ["t", "b"], ["y"])
        );
        var group = Assert.Single(g.All, m => m.CanShrink);
        Assert.Equal([1L, 7], group.Members.Single(m => m.Name == "a").Indices(1));
        Assert.Equal(2, group.Lengths.Count);
        Assert.Equal([5L, 5], group.Lengths.Select(l => l.Of(_ => 1)));
    }

    [Fact]
    public void Depthwise_and_grouped_convolutions_keep_their_groups()
    {
        var g = Groups(
            Image(4).Weight("a", 8, 4, 1, 1).Weight("d", 8, 1, 3, 3).Weight("e", 12, 2, 1, 1).Weight("f", 2, 12, 1, 1),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Conv", ["p", "d"], ["q"], Pads, ModelEdit.Attribute("group", 8L)),
            Node("Conv", ["q", "e"], ["r"], ModelEdit.Attribute("group", 4L)),
            Node("Conv", ["r", "f"], ["y"])
        );
        // Four groups of two channels in and three out: a group, a channel in of all groups, a channel out of all groups.
        Assert.Equal(["2 a.0+d.0+e.1-", "3 e.0+f.1-", "4 a.0+d.0+e.0+f.1-"], Open(g));
        var whole = g.All.Single(m => m.Units == 4 && m.CanShrink);
        Assert.Equal([2L, 3], whole.Members.Single(m => m.Name == "a").Indices(1));
        Assert.Equal([3L, 4, 5], whole.Members.Single(m => m.Name == "e").Indices(1));
        Assert.Equal(["group", "group"], whole.Lengths.Select(l => l.Attribute));
        Assert.Equal([6L, 3], whole.Lengths.Select(l => l.Of(m => m == whole ? 1 : 0)));
        Assert.Equal([1L, 3, 5, 7], g.All.Single(m => m.Units == 2 && m.CanShrink).Members.Single(m => m.Name == "a").Indices(1));
    }

    [Fact]
    public void Heads_span_rows_of_query_key_and_value_and_columns_of_the_output()
    {
        var model = OfOpset(13).Input("x", DataType.Float, "N", "T", 10);
        foreach (var w in "qkv")
            model.Weight($"{w}", 10, 12);
        model.Weight("o", 12, 7).Initializer(Numbers("s", 0, 0, 4, 3)).Initializer(Numbers("t", 0, 0, 12));
        foreach (var w in "qkv")
            model.With(
                Node("MatMul", ["x", $"{w}"], [$"{w}1"]),
                Node("Reshape", [$"{w}1", "s"], [$"{w}2"]),
                Node("Transpose", [$"{w}2"], [$"{w}3"], ModelEdit.Attribute("perm", w == 'k' ? [0L, 2, 3, 1] : [0, 2, 1, 3]))
            );
        var g = Groups(
            model,
            Node("MatMul", ["q3", "k3"], ["a"]),
            Node("Softmax", ["a"], ["b"], ModelEdit.Attribute("axis", 3L)),
            Node("MatMul", ["b", "v3"], ["c"]),
            Node("Transpose", ["c"], ["d"], ModelEdit.Attribute("perm", [0L, 2, 1, 3])),
            Node("Reshape", ["d", "t"], ["e"]),
            Node("MatMul", ["e", "o"], ["y"])
        );
        Assert.Equal(["3 k.1+q.1+", "3 o.0-v.1+", "4 k.1+o.0-q.1+v.1+"], Open(g));
        var heads = g.All.Single(m => m.Units == 4 && m.CanShrink);
        Assert.All(heads.Members, m => Assert.Equal(3, m.Span));
        Assert.Equal([3L, 4, 5], heads.Members[0].Indices(1));
        Assert.Equal([3L, 3, 3, 9], heads.Lengths.Select(l => l.Of(m => m == heads ? 1 : 0)).Order());
    }

    [Fact]
    public void Hidden_units_of_an_LSTM_are_rows_of_all_gates()
    {
        var g = Groups(
            OfOpset(13)
                .Input("x", DataType.Float, 5, 1, 4)
                .Weight("w", 1, 24, 4)
                .Weight("r", 1, 24, 6)
                .Weight("b", 1, 48)
                .Weight("o", 6, 2)
                .Initializer(Numbers("one", 1)),
            Node("LSTM", ["x", "w", "r", "b"], ["h"], ModelEdit.Attribute("hidden_size", 6L)),
            Node("Squeeze", ["h", "one"], ["p"]),
            Node("MatMul", ["p", "o"], ["y"])
        );
        Assert.Equal(["6 b.1*o.0-r.1+r.2-w.1+"], Open(g));
        Assert.Equal([2L, 8, 14, 20], g.All.Single(m => m.CanShrink).Members.Single(m => m.Name == "w").Indices(2));
    }

    [Fact]
    public void A_state_that_a_caller_gives_keeps_its_hidden_units()
    {
        var g = Groups(
            OfOpset(13)
                .Input("x", DataType.Float, 5, 1, 4)
                .Input("state", DataType.Float, 1, 1, 6)
                .Weight("w", 1, 18, 4)
                .Weight("r", 1, 18, 6)
                .Weight("o", 6, 2),
            Node("GRU", ["x", "w", "r", "", "", "state"], ["", "h"], ModelEdit.Attribute("hidden_size", 6L)),
            Node("MatMul", ["h", "o"], ["y"])
        );
        Assert.Empty(Open(g));
        Assert.Contains("6 o.0-r.1+r.2-w.1+: an input of the model, 'state'", Closed(g));
    }

    [Fact]
    public void Branches_of_an_If_make_the_same_channels()
    {
        GraphProto Branch(string weight)
        {
            var graph = new GraphProto { Name = weight };
            graph.Initializer.Add(Tensor(weight, Random(weight, 8, 8, 1, 1), 8, 8, 1, 1));
            graph.Node.Add(Node("Conv", ["p", weight], [weight + "o"]));
            graph.Output.Add(new ValueInfoProto { Name = weight + "o" });
            return graph;
        }
        var g = Groups(
            Image(4).Input("c", DataType.Bool).Weight("a", 8, 4, 1, 1).Weight("d", 2, 8, 1, 1),
            Node("Conv", ["x", "a"], ["p"]),
            Node("If", ["c"], ["q"], Subgraph("then_branch", Branch("t")), Subgraph("else_branch", Branch("e"))),
            Node("Conv", ["q", "d"], ["y"])
        );
        Assert.Equal(["8 a.0+e.1-t.1-", "8 d.1-e.0+t.0+"], Open(g));
    }

    [Theory]
    [InlineData("LayerNormalization", "takes statistics over it, which would change")]
    [InlineData("Softmax", "takes statistics over it, which would change")]
    [InlineData("CumSum", "sums along it")]
    [InlineData("NonZero", "is not known here")]
    public void What_depends_on_all_channels_keeps_them(string op, string why)
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, "N", 4)
            .Weight("a", 4, 8)
            .Weight("s", 8)
            .Weight("b", 8, 2)
            .Initializer(Numbers("axis", 1));
        string[] inputs = op switch
        {
            "LayerNormalization" => ["p", "s"],
            "CumSum" => ["p", "axis"],
            _ => ["p"],
        };
        var g = Groups(model, Node("MatMul", ["x", "a"], ["p"]), Node(op, inputs, ["q"]), Node("MatMul", ["q", "b"], ["y"]));
        Assert.Empty(Open(g));
        Assert.Contains(g.All, m => m.Reason == $"{op} of 'q' {why}");
    }

    [Fact]
    public void A_length_that_is_computed_with_keeps_what_it_is_the_length_of()
    {
        var g = Groups(
            OfOpset(13).Input("x", DataType.Float, "N", 4).Weight("a", 4, 8).Weight("b", 8, 2).Initializer(Numbers("last", 1)),
            Node("MatMul", ["x", "a"], ["p"]),
            Node("Shape", ["p"], ["s"]),
            Node("Gather", ["s", "last"], ["t"]),
            Node("Cast", ["t"], ["u"], ModelEdit.Attribute("to", 1L)),
            Node("Sqrt", ["u"], ["v"]),
            Node("Div", ["p", "v"], ["q"]),
            Node("MatMul", ["q", "b"], ["y"])
        );
        Assert.Empty(Open(g));
        Assert.Contains(g.All, m => m.Reason == "its length is computed with in Cast of 'u'");
    }

    [Fact]
    public void A_Reshape_that_mixes_channels_with_others_keeps_them()
    {
        var g = Groups(
            Image(6).Weight("a", 6, 6, 1, 1).Weight("b", 4, 2).Initializer(Numbers("s", 0, 4, 24)),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Reshape", ["p", "s"], ["q"]),
            Node("Transpose", ["q"], ["r"], ModelEdit.Attribute("perm", [0L, 2, 1])),
            Node("MatMul", ["r", "b"], ["y"])
        );
        Assert.Contains(g.All, m => m.Reason == "Reshape of 'q' mixes it with others");
    }

    [Fact]
    public void Heads_of_queries_go_with_the_heads_of_keys_that_they_share()
    {
        var g = Groups(
            OfOpset(13)
                .Input("x", DataType.Float, "N", "T", 10)
                .Weight("q", 10, 24)
                .Weight("k", 10, 12)
                .Initializer(Numbers("qs", 0, 0, 8, 3))
                .Initializer(Numbers("ks", 0, 0, 4, 1, 3))
                .Initializer(Numbers("wide", 1, 1, 4, 2, 3))
                .Initializer(Numbers("flat", 0, 0, 8, 3)),
            Node("MatMul", ["x", "q"], ["q1"]),
            Node("Reshape", ["q1", "qs"], ["q2"]),
            Node("MatMul", ["x", "k"], ["k1"]),
            Node("Reshape", ["k1", "ks"], ["k2"]),
            Node("Expand", ["k2", "wide"], ["k3"]),
            Node("Reshape", ["k3", "flat"], ["k4"]),
            Node("Transpose", ["q2"], ["q5"], ModelEdit.Attribute("perm", [0L, 2, 1, 3])),
            Node("Transpose", ["k4"], ["k5"], ModelEdit.Attribute("perm", [0L, 2, 3, 1])),
            Node("MatMul", ["q5", "k5"], ["s"]),
            Node("ReduceMean", ["s"], ["y"], ModelEdit.Attribute("axes", [3L]))
        );
        // Heads reach the output; what they are made of, and how many share a key, is open in q alone.
        Assert.Contains("4 k.1+q.1+: an output of the model, 'y'", Closed(g));
        Assert.Contains("3 k.1+q.1+", Open(g));
        Assert.Equal([6L, 7, 8, 9, 10, 11], g.All.Single(m => m.Units == 4).Members.Single(m => m.Name == "q").Indices(1));
    }

    [Fact]
    public void A_shuffle_of_channels_keeps_groups_whole()
    {
        var g = Groups(
            Image(4)
                .Weight("a", 12, 4, 1, 1)
                .Weight("b", 2, 12, 1, 1)
                .Initializer(Numbers("s", 0, 3, 4, 4, 4))
                .Initializer(Numbers("t", 0, 12, 4, 4)),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Reshape", ["p", "s"], ["q"]),
            Node("Transpose", ["q"], ["r"], ModelEdit.Attribute("perm", [0L, 2, 1, 3, 4])),
            Node("Reshape", ["r", "t"], ["u"]),
            Node("Conv", ["u", "b"], ["y"])
        );
        Assert.Equal(["3 a.0+b.1-", "4 a.0+b.1-"], Open(g));
        var three = g.All.Single(m => m.Units == 3 && m.CanShrink).Members;
        Assert.Equal([4L, 5, 6, 7], three[0].Indices(1));
        Assert.Equal([1L, 4, 7, 10], three[1].Indices(1));
    }

    [Fact]
    public void Statistics_of_groups_leave_whole_groups_to_be_removed()
    {
        var g = Groups(
            Image(4).Weight("a", 8, 4, 1, 1).Weight("n", 2).Weight("m", 2).Weight("b", 2, 8, 1, 1).Initializer(Numbers("s", 0, 2, -1)),
            Node("Conv", ["x", "a"], ["p"]),
            Node("Reshape", ["p", "s"], ["q"]),
            Node("InstanceNormalization", ["q", "n", "m"], ["r"]),
            Node("Shape", ["p"], ["t"]),
            Node("Reshape", ["r", "t"], ["u"]),
            Node("Conv", ["u", "b"], ["y"])
        );
        Assert.Equal(["2 a.0+b.1-m.0*n.0."], Open(g));
    }

    private static ModelProto Image(int channels) => OfOpset(13).Input("x", DataType.Float, "N", channels, 4, 4);

    private static TensorProto Numbers(string name, params long[] values) =>
        Tensor(name, DataType.Int64, System.Runtime.InteropServices.MemoryMarshal.AsBytes<long>(values), values.Length);

    private static ChannelGroups Groups(ModelProto model, params NodeProto[] nodes)
    {
        model.With(nodes).Output("y");
        return new GraphFacts(model).Groups;
    }

    // Units, then members with their axis: + of a producer, - of a consumer, * of a bias.
    private static string[] Open(ChannelGroups groups) =>
        [.. groups.All.Where(g => g.CanShrink).Select(Shown).Order(StringComparer.Ordinal)];

    private static string[] Closed(ChannelGroups groups) =>
        [.. groups.All.Where(g => !g.CanShrink).Select(g => $"{Shown(g)}: {g.Reason}").Order(StringComparer.Ordinal)];

    private static string Shown(ChannelGroup group) =>
        $"{group.Units} {string.Concat(group.Members.Select(m => $"{m.Name}.{m.Axis}{Sign(m.Role)}").Order(StringComparer.Ordinal))}";

    private static char Sign(ChannelRole role) =>
        role switch
        {
            ChannelRole.Producer => '+',
            ChannelRole.Consumer => '-',
            ChannelRole.Bias => '*',
            _ => '.',
        };
}
