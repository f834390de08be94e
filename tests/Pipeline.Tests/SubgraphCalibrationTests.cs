using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Layers inside subgraphs, and behind operators that turn or reorder their rows, are calibrated like any other.</summary>
public class SubgraphCalibrationTests
{
    // Both of Silero's networks are branches of an If, their recurrent weights behind Unsqueeze.
    [Theory]
    [InlineData("silero_vad_v5", 0.95)]
    [InlineData("silero_vad_v6", 0.4)]
    public async Task Gptq_is_nearer_than_rounding_to_nearest_inside_branches(string name, double most)
    {
        using var folder = new Folder();
        var rtn = await Compressed.RunAsync(
            folder,
            RealModels.File(name),
            "version: 1\nsteps:\n- quantize: {method: rtn, bits: 4, protect: 0}\n"
        );
        var gptq = await Compressed.RunAsync(
            folder,
            RealModels.File(name),
            "version: 1\nsteps:\n- quantize: {method: gptq, bits: 4, protect: 0}\n"
        );
        Assert.DoesNotContain(gptq.Report.Layers, l => l.Fallback?.StartsWith("rounded to nearest", StringComparison.Ordinal) == true);
        Assert.InRange((double)gptq.Report.Size.After / rtn.Report.Size.After, 0.99, 1.01);
        Assert.True(
            gptq.Report.Fidelity.RelativeError < most * rtn.Report.Fidelity.RelativeError,
            $"{gptq.Report.Fidelity} {rtn.Report.Fidelity}"
        );
    }

    [Theory]
    [InlineData(false, 13)]
    [InlineData(true, 13)]
    [InlineData(false, 9)]
    [InlineData(true, 10)]
    public async Task Branches_that_no_sample_takes_are_rounded_to_nearest_and_the_others_are_not(bool nested, int opset)
    {
        using var folder = new Folder();
        var (taken, other) = (Branch("taken"), Branch("other"));
        if (nested)
        {
            taken = new GraphProto { Name = "outer" };
            taken.Node.Add(If("taken_y", Branch("taken"), Branch("deep")));
            taken.Output.Add(Float("taken_y"));
        }
        var model = OfOpset(opset)
            .Input("x", DataType.Float, 6, 48)
            .Initializer(Tensor("yes", DataType.Bool, [1]))
            .Weight("before", 48, 48)
            .With(Node("MatMul", ["x", "before"], ["m"]), If("y", taken, other))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: gptq, protect: 0}\n");
        string? Fallback(string name) => done.Report.Layers.Single(l => l.Name.EndsWith(name, StringComparison.Ordinal)).Fallback;
        Assert.Null(Fallback("before"));
        Assert.Null(Fallback("taken_w"));
        Assert.Equal("rounded to nearest: no sample reached it", Fallback("other_w"));
        if (nested)
            Assert.Equal("rounded to nearest: no sample reached it", Fallback("deep_w"));
    }

    [Fact]
    public async Task What_a_loop_repeats_is_rounded_to_nearest_and_the_report_says_why()
    {
        using var folder = new Folder();
        var body = new GraphProto { Name = "body" };
        body.Input.AddRange([Value("i", DataType.Int64), Value("go", DataType.Bool), Value("h", DataType.Float, 6, 48)]);
        body.Initializer.Add(Tensor("w", TestModels.Random("w", [48, 48]), 48, 48));
        body.Node.AddRange([Node("MatMul", ["h", "w"], ["p"]), Node("Tanh", ["p"], ["next"]), Node("Identity", ["go"], ["still"])]);
        body.Output.AddRange([Value("still", DataType.Bool), Value("next", DataType.Float, 6, 48)]);
        var model = OfOpset(13)
            .Input("x", DataType.Float, 6, 48)
            .Initializer(Tensor("times", DataType.Int64, BitConverter.GetBytes(3L)))
            .Initializer(Tensor("yes", DataType.Bool, [1]))
            .With(
                Node(
                    "Loop",
                    ["times", "yes", "x"],
                    ["y"],
                    new AttributeProto
                    {
                        Name = "body",
                        G = body,
                        Type = AttributeProto.Types.AttributeType.Graph,
                    }
                )
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: gptq, protect: 0}\n");
        Assert.Equal("rounded to nearest: it is used inside a loop", done.Report.Layers.Single(l => l.Note is null).Fallback);
    }

    private static NodeProto If(string output, GraphProto then, GraphProto otherwise) =>
        Node(
            "If",
            ["yes"],
            [output],
            new AttributeProto
            {
                Name = "then_branch",
                G = then,
                Type = AttributeProto.Types.AttributeType.Graph,
            },
            new AttributeProto
            {
                Name = "else_branch",
                G = otherwise,
                Type = AttributeProto.Types.AttributeType.Graph,
            }
        );

    // The input of its layer is made inside, of a value from outside.
    private static GraphProto Branch(string name)
    {
        var graph = new GraphProto { Name = name };
        graph.Initializer.Add(Tensor($"{name}_w", TestModels.Random(name, [48, 48]), 48, 48));
        graph.Node.AddRange([Node("Tanh", ["m"], [$"{name}_t"]), Node("MatMul", [$"{name}_t", $"{name}_w"], [$"{name}_y"])]);
        graph.Output.Add(Float($"{name}_y"));
        return graph;
    }

    private static ValueInfoProto Float(string name) =>
        new()
        {
            Name = name,
            Type = new TypeProto { TensorType = new() { ElemType = (int)DataType.Float } },
        };
}
