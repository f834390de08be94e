using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Weights that a model computes from constants are weights all the same.</summary>
public class ConstantExpressionTests
{
    private const string Int8 = "version: 1\npreset: int8\n";

    [Fact]
    public async Task Weight_normalization_is_computed_once_and_the_weight_compressed()
    {
        // idiap/coqui-ai-TTS#588: w = g · v / ‖v‖.
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 32, 16)
            .Weight("conv.weight_v", 64, 32, 3)
            .Weight("conv.weight_g", 64, 1, 1)
            .With(
                Node("ReduceL2", ["conv.weight_v"], ["norm"], ModelEdit.Attribute("axes", 1L, 2L)),
                Node("Div", ["conv.weight_v", "norm"], ["unit"]),
                Node("Mul", ["unit", "conv.weight_g"], ["w"]),
                Node("Conv", ["x", "w"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, Int8);
        Assert.True(done.Report.Size.Ratio < 0.35, done.Report.Size.ToString());
        Assert.True(done.Report.Fidelity.Cosine > 0.999);
        // Rules of recipes know the weight by its own name.
        Assert.Equal("conv.weight_v", Assert.Single(done.Report.Layers, l => l.Note is null).Name);
        Assert.Equal(["ReduceL2", "Div", "Mul"], Assert.Single(done.Report.Folded).Operators);
    }

    [Fact]
    public async Task Fake_quantization_of_a_float_weight_is_stored_as_its_codes_exactly()
    {
        // NVIDIA/TensorRT#1690.
        using var folder = new Folder();
        var scales = Enumerable.Range(0, 64).Select(i => 0.002f + i * 1e-5f).ToArray();
        var axis = ModelEdit.Attribute("axis", 0L);
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 32, 16)
            .Weight("w", 64, 32, 3)
            .Initializer(Tensor("s", scales, 64))
            .Initializer(Tensor("z", DataType.Int8, new byte[64], 64))
            .With(
                Node("QuantizeLinear", ["w", "s", "z"], ["q"], axis),
                Node("DequantizeLinear", ["q", "s", "z"], ["d"], axis.Clone()),
                Node("Conv", ["x", "d"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, Int8);
        Assert.True(done.Report.Size.Ratio < 0.35, done.Report.Size.ToString());
        Assert.Equal(0, done.Report.Fidelity.RelativeError);
        Assert.Equal(("w", "INT8"), done.Report.Folded.Select(f => (f.Name, f.Type)).Single());
    }

    [Theory]
    [InlineData("Identity", "static, onlyIfFaster: false", "Qdq")]
    [InlineData("Transpose", "static, onlyIfFaster: false", "Qdq")]
    [InlineData("Unsqueeze", "static, onlyIfFaster: false", "Qdq")]
    [InlineData("Cast", "static, onlyIfFaster: false", "Qdq")]
    [InlineData("Cast, Transpose", "static, onlyIfFaster: false", "Qdq")]
    [InlineData("Transpose, Cast", "dynamic, onlyIfFaster: false", "Dynamic")]
    [InlineData("Identity", "dynamic, onlyIfFaster: false", "Dynamic")]
    [InlineData("Identity", "gptq, bits: 4", null)]
    [InlineData("Cast", "awq, bits: 4", null)]
    public async Task Operators_that_lay_out_or_cast_a_weight_do_not_hide_it(string between, string method, string? form)
    {
        // microsoft/onnxruntime#9869.
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 8, 256);
        var value = "stored";
        var operators = between.Split(", ");
        foreach (var op in operators)
        {
            var made = op == operators[^1] ? "w" : "between";
            model.With(
                op switch
                {
                    "Cast" => Node("Cast", [value], [made], ModelEdit.Attribute("to", 1L)),
                    "Unsqueeze" => Node("Squeeze", [value], [made]),
                    _ => Node(op, [value], [made]),
                }
            );
            value = made;
        }
        var floats = Random("stored", 256, 128);
        long[] dims =
            operators.Contains("Transpose") ? [128, 256]
            : operators.Contains("Unsqueeze") ? [1, 256, 128]
            : [256, 128];
        model.Initializer(
            operators.Contains("Cast")
                ? Tensor("stored", DataType.Float16, MemoryMarshal.AsBytes(floats.Select(f => (Half)f).ToArray().AsSpan()), dims)
                : Tensor("stored", floats, dims)
        );
        model.With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{method: {method}}}\n");
        var layer = Assert.Single(done.Report.Layers);
        Assert.Equal(("stored", (string?)null), (layer.Name, layer.Fallback));
        if (form is not null)
            Assert.Equal(form, layer.Form);
        Assert.Equal(operators.Contains("Cast") ? 256 * 128 * 2 : 256 * 128 * 4, layer.BytesBefore);
        Assert.True(done.Report.Fidelity.Cosine > 0.98, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task A_weight_that_others_take_too_is_not_stored_twice()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Int64, 1, 8)
            .Weight("tied", 256, 64)
            .With(Node("Gather", ["tied", "x"], ["e"]), Node("Transpose", ["tied"], ["t"]), Node("MatMul", ["e", "t"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, Int8);
        Assert.Empty(done.Report.Folded);
        Assert.True(done.Report.Size.Ratio < 0.35, done.Report.Size.ToString());
    }

    [Fact]
    public async Task Expressions_in_branches_are_computed_and_those_of_random_numbers_are_not()
    {
        using var folder = new Folder();
        var branches = new[] { "then_branch", "else_branch" }
            .Select(name =>
            {
                var branch = new GraphProto { Name = name };
                branch.Initializer.Add(Tensor(name + "_w", Random(name, 64, 64), 64, 64));
                branch.Node.Add(Node("Neg", [name + "_w"], [name + "_n"]));
                branch.Node.Add(Node("MatMul", ["x", name + "_n"], [name + "_y"]));
                branch.Output.Add(Value(name + "_y", DataType.Float));
                return Subgraph(name, branch);
            })
            .ToArray();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Input("first", DataType.Bool)
            .Weight("r", 64, 64)
            .With(
                Node("If", ["first"], ["h"], branches),
                Node("RandomNormalLike", ["r"], ["noise"]),
                Node("Mul", ["r", "noise"], ["rn"]),
                Node("MatMul", ["h", "rn"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, Int8);
        Assert.Equal(["else_branch_w", "then_branch_w"], done.Report.Folded.Select(f => f.Name).Order());
        Assert.Equal(2, done.Report.Layers.Count(l => l.Note is null));
    }
}
