using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Activations;
using Serverless.Core.Techniques.Quantization;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Integer kernels are for where they pay, and where their ranges are known.</summary>
public class IntegerPayTests
{
    [Theory]
    [InlineData(Static, 16, 3, "it is too narrow for an integer kernel to pay")]
    [InlineData(Static, 64, 3, null)]
    [InlineData(Static, 32, 1, "it is too narrow for an integer kernel to pay")]
    [InlineData(Static + ", onlyIfFaster: false", 16, 3, null)]
    [InlineData(Static + ", reduceRange: no", 16, 3, null)]
    public void Narrow_convolutions_stay_float_where_products_of_bytes_have_no_instructions(
        string method,
        long channels,
        long kernel,
        string? why
    )
    {
        // microsoft/onnxruntime#20052.
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, channels, 28, 28)
            .Weight("w", channels, channels, kernel, kernel)
            .With(Node("Conv", ["x", "w"], ["y"]))
            .Output("y");
        Assert.Equal(why, Decide(model, method).Plan!.Instead);
    }

    [Theory]
    [InlineData("dynamic", 128, true)]
    [InlineData("dynamic", 512, false)]
    [InlineData(Static, 64, true)]
    [InlineData(Static, 256, false)]
    public void Small_matrices_stay_float(string method, long width, bool small)
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, width)
            .Weight("w", width, width)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        Assert.Equal(small, Decide(model, method).Plan!.Instead is not null);
    }

    [Fact]
    public void Where_the_result_is_slower_its_layers_are_planned_in_float_unless_that_does_not_matter()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 512)
            .Weight("w", 512, 512)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var weight = Core.Model.Weight.Of(model).Single();
        LayerPlan? InFloat(string method)
        {
            var task = Decide(model, method);
            return task.Step!.Layer.InFloat(weight, task.Shape, task.Store, task.Step!.Typed, 2);
        }
        Assert.Contains("2.00 times", InFloat("dynamic")!.Instead!, StringComparison.Ordinal);
        Assert.Contains("2.00 times", InFloat(Static)!.Instead!, StringComparison.Ordinal);
        Assert.Null(InFloat("dynamic, onlyIfFaster: false"));
        Assert.Null(InFloat("rtn"));
    }

    [Fact]
    public async Task A_matrix_behind_a_relu_that_float_operators_take_is_an_integer_kernel()
    {
        // ONNX Runtime made a float kernel with the Relu in it, and decoded the weight at every run.
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 4, 256)
            .Weight("w", 256, 256)
            .Weight("b", 256)
            .With(Node("Gemm", ["x", "w", "b"], ["g"]), Node("Relu", ["g"], ["r"]), Node("Softmax", ["r"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: static, onlyIfFaster: false}\n");
        Assert.Contains("QGemm", OptimizedOperators(done.File).Keys);
        Assert.DoesNotContain("FusedGemm", OptimizedOperators(done.File).Keys);
    }

    [Fact]
    public async Task Without_data_what_grows_faster_than_the_input_stays_float_and_the_report_warns()
    {
        // An audio front end: the power of a filter's output.
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, "samples")
            .Initializer(Tensor("shape", DataType.Int64, System.Runtime.InteropServices.MemoryMarshal.AsBytes<long>([1, 1, -1]), 3))
            .Weight("filter", 64, 1, 128)
            .Weight("bands", 64, 64, 1)
            .Initializer(Tensor("floor", [1e-6f], 1))
            .Weight("head", 64, 64, 3)
            .With(
                Node("Reshape", ["x", "shape"], ["wave"]),
                Node("Conv", ["wave", "filter"], ["f"], ModelEdit.Attribute("strides", [16L])),
                Node("Mul", ["f", "f"], ["power"]),
                Node("Conv", ["power", "bands"], ["b"]),
                Node("Abs", ["b"], ["a"]),
                Node("Add", ["a", "floor"], ["p"]),
                Node("Log", ["p"], ["l"]),
                Node("Conv", ["l", "head"], ["h"]),
                Node("Relu", ["h"], ["r"]),
                Node("Softmax", ["r"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: static, onlyIfFaster: false}\n");
        Assert.Matches("its range grows [0-9]+-fold from quiet to loud inputs", done.Report.Layers.Single(l => l.Name == "bands").Fallback);
        Assert.Equal("Qdq", done.Report.Layers.Single(l => l.Name == "head").Form);
        Assert.Contains("Ranges of activations come from synthetic inputs: drop a data.npz with real ones.", done.Report.Warnings);
        Assert.True(done.Report.Fidelity.Cosine > 0.9, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task ReduceRange_is_settled_with_the_recipe()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 1, 64).Weight("w", 64, 64).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- quantize: {method: static}\nlayers:\n- {match: v, reduceRange: auto}\n- {match: u, reduceRange: no}\n"
        );
        var recipe = await File.ReadAllTextAsync(Path.Combine(Path.GetDirectoryName(done.File)!, "recipe.yaml"));
        Assert.DoesNotContain("auto", recipe);
        Assert.Contains($"reduceRange: {(StaticInteger.Settled(ReduceRange.Auto) == ReduceRange.Yes ? "yes" : "no")}", recipe);
        Assert.Contains("match: \"u\", quantize: {reduceRange: no}", recipe);
    }

    [Fact]
    public void A_rule_on_ranges_holds_for_the_values_of_its_layers_alone()
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Weight("a", 64, 64)
            .Weight("b", 64, 64)
            .Weight("c", 64, 64)
            .With(
                Node("MatMul", ["x", "a"], ["ya"]),
                Node("MatMul", ["ya", "b"], ["yb"]),
                Node("Tanh", ["yb"], ["t"]),
                Node("MatMul", ["t", "c"], ["yc"])
            )
            .Output("yc");
        var (usual, other) = (new ActivationRounding(RangeMethod.Mse, 99.99), new ActivationRounding(RangeMethod.Minmax, 99.99));
        var rounding = ActivationScales.Roundings([.. Core.Model.Weight.Of(model).Select(w => (w, w.Name == "b" ? other : usual))]);
        Assert.Equal([usual, other, other, usual, usual], new[] { "x", "ya", "yb", "t", "yc" }.Select(rounding));
    }

    [Theory]
    [InlineData("If")]
    [InlineData("ConstantOfShape")]
    [InlineData("LSTM")]
    public async Task Values_of_unknown_type_meet_float16_and_the_model_runs(string producer)
    {
        // microsoft/onnxruntime#7981.
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 1, 1, 64).Weight("w", 64, 64).Weight("v", 64, 64);
        if (producer == "LSTM")
        {
            model
                .Weight("lw", 1, 256, 64)
                .Weight("lr", 1, 256, 64)
                .With(
                    Node("LSTM", ["x", "lw", "lr"], ["", "state"], ModelEdit.Attribute("hidden_size", 64L)),
                    Node("MatMul", ["x", "w"], ["h"]),
                    Node("Add", ["h", "state"], ["s"])
                );
        }
        else if (producer == "ConstantOfShape")
        {
            model.With(
                Node("Shape", ["x"], ["shape"]),
                Node("ConstantOfShape", ["shape"], ["zeros"]),
                Node("MatMul", ["x", "w"], ["h"]),
                Node("Add", ["h", "zeros"], ["s"])
            );
        }
        else
        {
            var branches = new[] { "then_branch", "else_branch" }
                .Select(name =>
                {
                    var branch = new GraphProto { Name = name };
                    branch.Node.Add(Node(name == "then_branch" ? "Relu" : "Neg", ["h"], [name + "_y"]));
                    branch.Output.Add(new ValueInfoProto { Name = name + "_y" });
                    return Subgraph(name, branch);
                })
                .ToArray();
            model
                .Input("first", DataType.Bool)
                .With(Node("MatMul", ["x", "w"], ["h"]), Node("If", ["first"], ["chosen"], branches), Node("Add", ["h", "chosen"], ["s"]));
        }
        model.With(Node("MatMul", ["s", "v"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: float16, compute: true}\n");
        using (new InferenceSession(done.File)) { }
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
        Assert.True(done.Report.Size.Ratio < 0.6);
    }

    private const string Static = "static";

    private static LayerTask Decide(ModelProto model, string method)
    {
        // As on a processor without instructions for products of bytes, unless the test says otherwise.
        var range =
            method.Contains("reduceRange", StringComparison.Ordinal) || method.StartsWith("rtn", StringComparison.Ordinal)
                ? ""
                : ", reduceRange: yes";
        return LayerTasks
            .Of(model, RecipeReader.Read($"version: 1\nsteps:\n- quantize: {{method: {method}{range}}}\n", "r"), 1, "drop")
            .Single();
    }
}
