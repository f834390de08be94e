using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Multiply-accumulates by weight, against counts by hand and against the shapes that ONNX Runtime makes.</summary>
public class MultiplyAccumulatesTests
{
    [Fact]
    public void Each_operator_counts_its_positions()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 3, 9, 9)
            .Input("t", DataType.Float, 1, 5, 16)
            .Input("i", DataType.Int64, 1, 7)
            .Weight("conv", 4, 3, 3, 3)
            .Weight("depthwise", 4, 1, 3, 3)
            .Weight("deconv", 4, 2, 2, 2)
            .Weight("matmul", 16, 8)
            .Weight("gemm", 8, 5)
            .Weight("w", 1, 24, 16)
            .Weight("r", 1, 24, 6)
            .Weight("table", 100, 16)
            .Weight("scale", 1, 16)
            .With(
                Node("Conv", ["x", "conv"], ["a"], ModelEdit.Attribute("strides", 2L, 2L)),
                Node("Conv", ["a", "depthwise"], ["b"], ModelEdit.Attribute("group", 4L), ModelEdit.Attribute("pads", 1L, 1L, 1L, 1L)),
                Node("ConvTranspose", ["b", "deconv"], ["y1"]),
                Node("Mul", ["t", "scale"], ["s"]),
                Node("MatMul", ["s", "matmul"], ["m"]),
                Node("Gemm", ["g", "gemm"], ["y2"], ModelEdit.Attribute("transA", 0L)),
                Node("LSTM", ["t", "w", "r"], ["y3"], ModelEdit.Attribute("hidden_size", 6L)),
                Node("Gather", ["table", "i"], ["y4"])
            );
        model.Graph.Node.Insert(5, Node("Flatten", ["m"], ["f"], ModelEdit.Attribute("axis", 2L)));
        model.Graph.Node.Insert(6, Node("Identity", ["f"], ["g"]));
        var counted = MultiplyAccumulates.Of(model.Output("y1"), new Dictionary<string, KnownInput>());
        Assert.Equal(4 * 4 * 108, counted["conv"]);
        Assert.Equal(4 * 4 * 36, counted["depthwise"]);
        Assert.Equal(4 * 4 * 32, counted["deconv"]);
        Assert.Equal(5 * 128, counted["matmul"]);
        Assert.Equal(5 * 40, counted["gemm"]);
        Assert.Equal(5 * 24 * 16, counted["w"]);
        Assert.Equal(5 * 24 * 6, counted["r"]);
        Assert.Equal(0, counted["table"]);
        Assert.Equal(0, counted["scale"]);
    }

    [Fact]
    public void An_axis_of_unknown_length_is_one_position_unless_it_is_given()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, -1, 16)
            .Weight("w", 16, 8)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        Assert.Equal(128, MultiplyAccumulates.Of(model, new Dictionary<string, KnownInput>())["w"]);
        Assert.Equal(640, MultiplyAccumulates.Of(model, new Dictionary<string, KnownInput> { ["x"] = new([1, 5, 16]) })["w"]);
    }

    // A condition that follows from an input decides on the branch; else the dearer one counts. Rounds that follow are counted.
    [Fact]
    public void Of_two_branches_one_is_counted_and_of_a_loop_its_rounds()
    {
        GraphProto Body(string weight, long columns) =>
            OfOpset(17).Weight(weight, 16, (int)columns).With(Node("MatMul", ["x", weight], [weight + "y"])).Output(weight + "y").Graph;
        var loop = OfOpset(17)
            .Input("n", DataType.Int64)
            .Input("on", DataType.Bool)
            .Weight("looped", 16, 2)
            .With(Node("MatMul", ["x", "looped"], ["ly"]), Node("Identity", ["on"], ["still"]))
            .Output("still")
            .Output("ly")
            .Graph;
        var model = OfOpset(17)
            .Input("x", DataType.Float, 5, 16)
            .Input("rate", DataType.Int64)
            .Input("rounds", DataType.Int64)
            .Initializer(Tensor("sixteen", DataType.Int64, BitConverter.GetBytes(16L)))
            .With(
                Node("Equal", ["rate", "sixteen"], ["is"]),
                Node("If", ["is"], ["y"], Subgraph("then_branch", Body("small", 4)), Subgraph("else_branch", Body("large", 8))),
                Node("Loop", ["rounds", ""], ["l"], Subgraph("body", loop))
            )
            .Output("y");
        Assert.Equal((0, 640, 160), Count([]));
        Assert.Equal((320, 0, 480), Count(new() { ["rate"] = new([], [16]), ["rounds"] = new([], [3]) }));
        Assert.Equal((0, 640, 0), Count(new() { ["rate"] = new([], [8]), ["rounds"] = new([], [0]) }));

        (long, long, long) Count(Dictionary<string, KnownInput> known)
        {
            var counted = MultiplyAccumulates.Of(model, known);
            return (counted["small"], counted["large"], counted["looped"]);
        }
    }

    // Weights that nodes compute of constants: normalized, and decoded from codes.
    [Fact]
    public void Operands_computed_of_constants_count_like_weights()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 5, 16)
            .Weight("v", 16, 8)
            .Weight("g", 1, 8)
            .Initializer(Tensor("codes", DataType.Int8, new byte[8 * 4], 8, 4))
            .Initializer(Tensor("scale", [0.5f]))
            .With(
                Node("ReduceL2", ["v"], ["n"], ModelEdit.Attribute("axes", 0L)),
                Node("Div", ["v", "n"], ["u"]),
                Node("Mul", ["u", "g"], ["w"]),
                Node("MatMul", ["x", "w"], ["h"]),
                Node("DequantizeLinear", ["codes", "scale"], ["d"]),
                Node("MatMul", ["h", "d"], ["y"])
            )
            .Output("y");
        var counted = MultiplyAccumulates.Of(model, new Dictionary<string, KnownInput>());
        Assert.Equal(5 * 16 * 8 + 5 * 8 * 4, counted.Values.Sum());
    }

    [Theory]
    [InlineData("silero_vad_v5")]
    [InlineData("silero_vad_v6")]
    public void Of_a_model_for_two_sampling_rates_the_half_that_runs_is_counted(string name)
    {
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(RealModels.File(name)));
        var known = new Dictionary<string, KnownInput>
        {
            ["input"] = new([1, 512]),
            ["state"] = new([2, 1, 128]),
            ["sr"] = new([], [16000]),
        };
        // The filters of 512 samples padded by 64, four convolutions, the cell's two matrices and the last sum.
        const long Cell = 2 * 512 * 128;
        Assert.Equal(
            258 * 256 * 3 + 128 * 129 * 3 * 3 + 64 * 128 * 3 * 2 + 64 * 64 * 3 + 128 * 64 * 3 + Cell + 128,
            MultiplyAccumulates.Of(model, known).Values.Sum()
        );
    }

    [Theory]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer")]
    public void A_real_model_counts_as_its_values_are_shaped_in_a_run(string name)
    {
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(RealModels.File(name)));
        long[] shape = [1, 3, 48, 192];
        var input = model.Graph.Input[0].Name;
        var sizes = model
            .Graph.Initializer.Select(t => (t.Name, Dims: t.Dims.ToArray()))
            .Concat(model.Graph.Node.Where(n => n.OpType == "Constant").Select(n => (n.Output[0], n.Attribute[0].T?.Dims.ToArray() ?? [])))
            .ToDictionary(t => t.Item1, t => t.Item2);
        var products = model.Graph.Node.Where(n => n.OpType is "Conv" or "MatMul" && sizes.ContainsKey(n.Input[1])).ToList();
        var tapped = model.Clone();
        tapped.Graph.Output.Clear();
        foreach (var node in products)
            tapped.Graph.Output.Add(new ValueInfoProto { Name = node.Output[0] });
        using var session = new InferenceSession(Google.Protobuf.MessageExtensions.ToByteArray(tapped));
        using var zeros = OrtValue.CreateTensorValueFromMemory(new float[shape.Aggregate(1L, (a, b) => a * b)], shape);
        using var options = new RunOptions();
        using var values = session.Run(options, [input], [zeros], session.OutputNames);
        long expected = 0;
        foreach (var node in products)
        {
            var at = session.OutputNames.ToList().IndexOf(node.Output[0]);
            var dims = sizes[node.Input[1]];
            var elements = dims.Aggregate(1L, (a, b) => a * b);
            expected += values[at].GetTensorTypeAndShape().ElementCount * (node.OpType == "Conv" ? elements / dims[0] : dims[^2]);
        }
        var counted = MultiplyAccumulates.Of(model, new Dictionary<string, KnownInput> { [input] = new(shape) });
        Assert.True(expected > 1_000_000, $"{expected}");
        Assert.Equal(expected, counted.Values.Sum());
    }
}
