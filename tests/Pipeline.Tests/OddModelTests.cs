using Serverless.Core;
using Serverless.Core.Execution;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Scaling;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Kinds of models that mutants found: what ONNX Runtime runs is compressed, what it does not is refused in a sentence.</summary>
public class OddModelTests
{
    public static TheoryData<string> Methods => [.. Technique.All.Where(t => t.Step == "quantize").Select(t => t.Method)];

    [Theory]
    [MemberData(nameof(Methods))]
    public void A_weight_whose_dims_its_operator_does_not_take_is_left_alone(string method)
    {
        foreach (
            var (op, dims) in new (string, long[])[]
            {
                ("Conv", [4096]),
                ("Conv", [64, 64]),
                ("ConvTranspose", [64, 64]),
                ("Gemm", [4096]),
                ("Gemm", [4, 32, 32]),
                ("LSTM", [64, 64]),
            }
        )
        {
            var model = OfOpset(17)
                .Input("x", DataType.Float, 1, 64, 8)
                .Weight("w", dims)
                .Weight("r", 1, 64, 16)
                .With(Node(op, ["x", "w", "r"], ["y"]))
                .Output("y");
            var recipe = RecipeReader.Read($"version: 1\nsteps:\n- quantize: {{method: {method}}}\n", "recipe.yaml");
            var task = LayerTasks.Of(model, recipe, 1, "drop").Single(t => t.Name == "w");
            Assert.Null(task.Plan);
            Assert.StartsWith($"no weight of {op}", task.SkipReason);
        }
        var grouped = OfOpset(17)
            .Input("x", DataType.Float, 1, 64, 8, 8)
            .Weight("w", 64, 64, 3, 3)
            .With(Node("Conv", ["x", "w"], ["y"], Core.Model.ModelEdit.Attribute("group", 0L)))
            .Output("y");
        Assert.StartsWith(
            "no weight of Conv",
            LayerTasks
                .Of(grouped, RecipeReader.Read($"version: 1\nsteps:\n- quantize: {{method: {method}}}\n", "r"), 1, "drop")
                .Single()
                .SkipReason
        );
    }

    [Theory]
    [InlineData("method: gptq")]
    [InlineData("method: static")]
    [InlineData("method: float16, compute: true")]
    public async Task A_sparse_initializer_takes_part_in_calibration(string method)
    {
        using var folder = new Folder();
        var model = Perceptron();
        model.Graph.Initializer.Remove(model.Graph.Initializer.Single(t => t.Name == "b"));
        var sparse = new SparseTensorProto
        {
            Values = Tensor("b", [0.5f], 1),
            Indices = Tensor("", DataType.Int64, BitConverter.GetBytes(3L), 1),
            Dims = { 64 },
        };
        model.Graph.SparseInitializer.Add(sparse);
        Assert.True((await CompressAsync(folder, model, method)).Report.Fidelity.Cosine > 0.98);
    }

    // ONNX Runtime takes the last of two imports; at 8 there is no operator that decodes a weight.
    [Theory]
    [InlineData("method: rtn")]
    [InlineData("method: static")]
    public async Task Of_two_imports_of_the_operators_the_last_counts(string method)
    {
        using var folder = new Folder();
        var model = Perceptron();
        model.OpsetImport.Add(new OperatorSetIdProto { Version = 8 });
        Assert.True((await CompressAsync(folder, model, method)).Report.Fidelity.Cosine > 0.98);
    }

    /// <summary>Integer kernels take weights in their own order; decoded to floats behind them they have to keep it.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_layer_that_stays_in_float_under_static_keeps_its_weights_in_order(long turned)
    {
        using var folder = new Folder();
        var dims = turned == 1 ? new long[] { 96, 64 } : [64, 96];
        var model = OfOpset(17).Input("x", DataType.Float, 1, 64).Input("c", DataType.Float, 96).Weight("w", dims);
        // A bias that is an input is none of an integer kernel.
        model.With(Node("Gemm", ["x", "w", "c"], ["y"], Core.Model.ModelEdit.Attribute("transB", turned))).Output("y");
        var done = await CompressAsync(folder, model, "method: static");
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
        Assert.StartsWith("weights only", done.Report.Layers.Single().Fallback);
    }

    [Theory]
    [InlineData("method: rtn")]
    [InlineData("method: gptq")]
    [InlineData("method: static")]
    public async Task An_output_that_is_named_twice_is_compared_once(string method)
    {
        using var folder = new Folder();
        var fidelity = (await CompressAsync(folder, Perceptron().Output("y"), method)).Report.Fidelity;
        Assert.True(fidelity.Cosine > 0.98, fidelity.ToString());
        Assert.Equal(8 * 64, Assert.Single(fidelity.Outputs).Compared);
    }

    [Fact]
    public async Task Values_of_unknown_type_meet_float16_at_the_type_that_the_operator_takes()
    {
        using var folder = new Folder();
        var model = Perceptron();
        model.Graph.Node.Clear();
        var branches = new[] { "then_branch", "else_branch" }
            .Select(name =>
            {
                var branch = new GraphProto { Name = name };
                branch.Node.Add(Node("Relu", ["h"], [name + "_y"]));
                branch.Output.Add(Value(name + "_y", DataType.Float));
                return Subgraph(name, branch);
            })
            .ToArray();
        model.Initializer(Tensor("always", DataType.Bool, new byte[] { 1 }));
        model.With(
            Node("MatMul", ["x", "w"], ["h"]),
            Node("If", ["always"], ["chosen"], branches),
            Node("Add", ["h", "chosen"], ["both"]),
            Node("Gemm", ["both", "v", "b"], ["y"])
        );
        Assert.True((await CompressAsync(folder, model, "method: float16, compute: true")).Report.Fidelity.Cosine > 0.999);
    }

    [Theory]
    [InlineData(0, "has no output")]
    [InlineData(1, "lacks inputs")]
    [InlineData(2, "lacks inputs")]
    public async Task A_node_without_what_its_operator_needs_is_refused(int kind, string why)
    {
        using var folder = new Folder();
        var model = Perceptron();
        if (kind == 0)
            model.With(new NodeProto { OpType = "Relu", Input = { "x" } });
        else if (kind == 1)
            model.Graph.Node[0].Input.RemoveAt(1);
        else
            model.Graph.Node[0].Input[1] = "";
        Assert.Contains(why, (await Assert.ThrowsAsync<BadInputException>(() => CompressAsync(folder, model, "method: static"))).Message);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void A_weight_that_is_no_number_has_no_part_in_equalization(float odd)
    {
        var values = ChannelScaling.Of(Perceptron()).Where(v => v.FromLayer).ToList();
        var widest = new float[64, 64];
        for (var i = 0; i < 64; i++)
        for (var j = 0; j < 64; j++)
            widest[i, j] = i == 3 && j == 5 ? odd : i + 1;
        var scales = Assert.Single(Equalization.Solve(values, _ => widest, new EqualizationOptions()))!;
        Assert.All(scales, s => Assert.True(double.IsFinite(s) && s > 0));
    }

    [Fact]
    public void What_onnx_runtime_says_is_told_without_paths_of_machines()
    {
        using var folder = new Folder();
        folder.Write("sub/weights.bin", [1]);
        var said =
            $"[ErrorCode:Fail] Load model from {folder.Path}/m 1.onnx failed:/onnxruntime_src/onnxruntime/core/graph/graph.cc:1591 Node (/fc2/Gemm): {folder.Path}/sub/weights.bin is\nshort.";
        Assert.Equal("[ErrorCode:Fail] Node (/fc2/Gemm): weights.bin is short", RuntimeMessage.Of(new InvalidOperationException(said)));
    }

    private static ModelProto Perceptron() =>
        OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Weight("w", 64, 64)
            .Weight("v", 64, 64)
            .Weight("b", 64)
            .With(Node("MatMul", ["x", "w"], ["h"]), Node("Relu", ["h"], ["a"]), Node("Gemm", ["a", "v", "b"], ["y"]))
            .Output("y");

    private static Task<Compressed> CompressAsync(Folder folder, ModelProto model, string method) =>
        Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{{method}}}\n");
}
