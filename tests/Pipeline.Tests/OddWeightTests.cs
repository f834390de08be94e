using System.Runtime.InteropServices;
using Serverless.Core;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Weights, graphs and data of unusual form, as a user may have them.</summary>
public class OddWeightTests
{
    [Theory]
    [InlineData("method: awq, bits: 4", 0.2)]
    [InlineData("method: static, onlyIfFaster: false", 0.1)]
    [InlineData("method: dynamic", 0.1)]
    public async Task A_matrix_of_one_column_keeps_the_shape_of_its_output(string options, double most)
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 256)
            .Weight("v", 256, 256)
            .Weight("w", 256, 1)
            .With(Node("MatMul", ["x", "v"], ["h"]), Node("Relu", ["h"], ["r"]), Node("MatMul", ["r", "w"], ["y"]))
            .Output("y");
        var data = Floats(folder, 64, 256, i => MathF.Sin(i * 0.37f) + MathF.Cos(i * 0.011f));
        var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{{options}}}\n", data);
        Assert.Equal(0, done.Report.Fidelity.Outputs.Single().ChangedShapes);
        Assert.True(done.Report.Fidelity.RelativeError < most, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task Floats_in_a_list_of_a_Constant_are_a_weight_like_any_other()
    {
        using var folder = new Folder();
        var list = new AttributeProto { Name = "value_floats", Type = AttributeProto.Types.AttributeType.Floats };
        list.Floats.AddRange(Random("w", 64, 64));
        var model = OfOpset(17)
            .Input("x", DataType.Float, 3, 64)
            .Initializer(Tensor("s", DataType.Int64, MemoryMarshal.AsBytes<long>([64, 64]), 2))
            .With(Node("Constant", [], ["l"], list), Node("Reshape", ["l", "s"], ["w"]), Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        foreach (var constants in new[] { "true", "false" })
        {
            var recipe = $"version: 1\nsteps:\n- simplify: {{constants: {constants}}}\n- quantize: {{bits: 8, protect: 0}}\n";
            var done = await Compressed.RunAsync(folder, model, recipe);
            Assert.True(done.Report.Fidelity.Cosine > 0.999);
            Assert.True(done.Report.Size.Ratio < 0.5);
        }
    }

    [Fact]
    public async Task An_inner_constant_with_the_name_of_an_outer_one_gets_its_own()
    {
        using var folder = new Folder();
        var then = new GraphProto { Name = "then" };
        then.Node.Add(Node("MatMul", ["x", "w"], ["a"]));
        then.Output.Add(Value("a", DataType.Float));
        var other = new GraphProto { Name = "else" };
        other.Initializer.Add(Tensor("w", Random("inner", 64, 48), 64, 48));
        other.Node.Add(Node("MatMul", ["x", "w"], ["b"]));
        other.Output.Add(Value("b", DataType.Float));
        var model = OfOpset(17)
            .Input("x", DataType.Float, 3, 64)
            .Input("c", DataType.Bool)
            .Weight("w", 64, 48)
            .With(Node("If", ["c"], ["y"], Subgraph("then_branch", then), Subgraph("else_branch", other)))
            .Output("y");
        foreach (var options in new[] { "method: float16", "bits: 8, protect: 0" })
        {
            var done = await Compressed.RunAsync(
                folder,
                model,
                $"version: 1\nsteps:\n- simplify: {{constants: false}}\n- quantize: {{{options}}}\n"
            );
            Assert.Equal(2, done.Report.Layers.Count(l => l.Note is null));
            Assert.True(done.Report.Fidelity.Cosine > 0.999);
        }
    }

    [Fact]
    public async Task Nodes_in_any_order_compute_in_float16()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 3, 64)
            .Weight("v", 64, 64)
            .Weight("w", 64, 48)
            .With(Node("MatMul", ["r", "w"], ["y"]), Node("Relu", ["h"], ["r"]), Node("MatMul", ["x", "v"], ["h"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: float16, compute: true}\n");
        Assert.True(done.Report.Fidelity.Cosine > 0.999);
    }

    [Fact]
    public async Task Outputs_that_are_zero_in_both_models_meet_no_budget()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 64)
            .Weight("w", 64, 64)
            .Initializer(Tensor("low", [-1e6f]))
            .With(Node("MatMul", ["x", "w"], ["h"]), Node("Add", ["h", "low"], ["a"]), Node("Relu", ["a"], ["y"]))
            .Output("y");
        var data = Floats(folder, 16, 64, i => -0f * i);
        var done = await Compressed.RunAsync(folder, model, "version: 1\nbudget: {maxAccuracyLoss: 0.001}\npreset: int4\n", data);
        Assert.Equal("over-budget", done.Result.Status);
        Assert.Null(done.Report.Fidelity.Cosine);
        Assert.Contains(done.Report.Warnings, w => w.Contains("no output of the original holds a finite number other than zero"));
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("The data is zero", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_rule_without_a_layer_and_labels_without_a_class_are_said()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, "n", 64).Weight("w", 64, 64).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(
            path,
            ("x", "<f4", [16, 64], MemoryMarshal.AsBytes<float>(Random("x", 16, 64)).ToArray()),
            ("labels", "<i8", [16], MemoryMarshal.AsBytes<long>(Enumerable.Repeat(999L, 16).ToArray()).ToArray())
        );
        var done = await Compressed.RunAsync(folder, model, "version: 1\npreset: int8\nlayers: [{match: nosuch, skip: true}]\n", path);
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("No layer matches 'nosuch'", StringComparison.Ordinal));
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("16 of 16 labels are no classes", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Data_that_the_model_refuses_is_named()
    {
        using var folder = new Folder();
        var gather = OfOpset(17).Input("i", DataType.Int64, "n", 3).Weight("w", 70, 37).With(Node("Gather", ["w", "i"], ["y"])).Output("y");
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(path, ("i", "<i8", [4, 3], MemoryMarshal.AsBytes<long>(Enumerable.Repeat(500L, 12).ToArray()).ToArray()));
        var refused = await Assert.ThrowsAsync<BadInputException>(() =>
            Compressed.RunAsync(folder, gather, "version: 1\npreset: int8\n", path)
        );
        Assert.Contains("data.npz: ONNX Runtime cannot run the original model on these samples", refused.Message);
        var batch = OfOpset(17).Input("x", DataType.Float, 4, 64).Weight("w", 64, 64).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var few = Floats(folder, 3, 64, i => i);
        refused = await Assert.ThrowsAsync<BadInputException>(() => Compressed.RunAsync(folder, batch, "version: 1\npreset: int8\n", few));
        Assert.Contains("holds 3 samples where the model takes 4 in one run", refused.Message);
    }

    private static string Floats(Folder folder, int samples, int width, Func<int, float> value)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        var values = Enumerable.Range(0, samples * width).Select(value).ToArray();
        Npz.Write(path, ("x", "<f4", [samples, width], MemoryMarshal.AsBytes<float>(values).ToArray()));
        return path;
    }
}
