using System.Runtime.InteropServices;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Models whose outputs are not plain tensors of numbers, each known from a public bug report: they are compared as far as they can be,
/// and published.
/// </summary>
public class ComparisonTests
{
    private const string Int8 = "version: 1\npreset: int8\n";

    [Theory]
    [InlineData("preset: int8")]
    [InlineData("steps:\n- quantize: {method: float16}")]
    [InlineData("steps:\n- quantize: {method: static}")]
    public async Task An_output_whose_length_depends_on_values_is_compared_where_both_have_elements(string steps)
    {
        // microsoft/onnxruntime#21476.
        using var folder = new Folder();
        var model = Perceptron("h").With(Node("NonZero", ["positive"], ["y"]));
        model.Graph.Node.Insert(2, Node("Greater", ["h", "limit"], ["positive"]));
        model.Initializer(Tensor("limit", [0.01f], 1)).Output("y").Graph.Output[0].Type.TensorType.ElemType = (int)DataType.Int64;
        var done = await Compressed.RunAsync(folder, model, $"version: 1\n{steps}\n");
        var output = done.Report.Fidelity.Outputs.Single();
        if (steps.Contains("float16", StringComparison.Ordinal))
        {
            Assert.Equal(0, output.ChangedShapes);
            return;
        }
        Assert.True(output.ChangedShapes > 0 && output.ElementsBefore != output.ElementsAfter, output.ToString());
        Assert.InRange(done.Report.Fidelity.Cosine!.Value, 0.5, 0.9999999);
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("The output 'y' has another shape in ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Outputs_of_the_right_direction_and_a_tenth_of_the_size_are_far_from_the_original()
    {
        using var folder = new Folder();
        var weights = Enumerable.Range(0, 64 * 64).Select(i => 1 + 0.1f * (i % 64 + i / 64 % 2) / 64).ToArray();
        var inputs = Enumerable.Range(0, 16 * 64).Select(i => 1 + 0.01f * (i % 7)).ToArray();
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [16, 64], System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(inputs).ToArray()));
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 64)
            .Initializer(Tensor("w", weights, 64, 64))
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        // Of each output's 64 inputs 16 are left.
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- prune: {pattern: \"1:4\"}\n", data);
        Assert.True(done.Report.Fidelity is { Cosine: > 0.99, RelativeError: > 0.7 }, $"{done.Report.Fidelity}");
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("The outputs are far from the original's", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Random_operators_draw_the_same_numbers_in_both_models()
    {
        // idiap/coqui-ai-TTS#588: the noise of a VITS decides its output.
        using var folder = new Folder();
        var model = Perceptron("h").With(Node("RandomNormalLike", ["h"], ["noise"]), Node("Add", ["h", "noise"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nbudget: {maxAccuracyLoss: 0.01}\npreset: int8\n");
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
        Assert.Equal(("succeeded", 0.0), (done.Report.Status, done.Report.Fidelity.RepeatError));
        // Whoever takes the model gets its noise as it was.
        var random = ModelProto
            .Parser.ParseFrom(await File.ReadAllBytesAsync(done.File))
            .Graph.Node.Single(n => n.OpType == "RandomNormalLike");
        Assert.DoesNotContain(random.Attribute, a => a.Name == "seed");
    }

    [Fact]
    public async Task Labels_and_maps_of_probabilities_are_compared()
    {
        // onnx/sklearn-onnx#218.
        using var folder = new Folder();
        var names = new AttributeProto { Name = "classlabels_strings", Type = AttributeProto.Types.AttributeType.Strings };
        var keys = new AttributeProto
        {
            Name = "keys_int64s",
            Type = AttributeProto.Types.AttributeType.Ints,
            Ints = { Enumerable.Range(0, 64).Select(i => (long)i) },
        };
        var values = new AttributeProto { Name = "values_strings", Type = AttributeProto.Types.AttributeType.Strings };
        foreach (var list in new[] { names, values })
            for (var i = 0; i < 64; i++)
                list.Strings.Add(Google.Protobuf.ByteString.CopyFromUtf8($"class {i}"));
        var model = Perceptron("h")
            .With(
                Node("Softmax", ["h"], ["p"]),
                Node("ArgMax", ["p"], ["best"], ModelEdit.Attribute("axis", 1L), ModelEdit.Attribute("keepdims", 0L)),
                Node("ai.onnx.ml:LabelEncoder", ["best"], ["label"], keys, values),
                Node("ai.onnx.ml:ZipMap", ["p"], ["probabilities"], names)
            );
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "ai.onnx.ml", Version = 2 });
        model.Graph.Output.Add(
            new ValueInfoProto
            {
                Name = "label",
                Type = new TypeProto { TensorType = new() { ElemType = (int)DataType.String } },
            }
        );
        var map = new TypeProto
        {
            MapType = new()
            {
                KeyType = (int)DataType.String,
                ValueType = new TypeProto { TensorType = new() { ElemType = (int)DataType.Float } },
            },
        };
        model.Graph.Output.Add(
            new ValueInfoProto
            {
                Name = "probabilities",
                Type = new TypeProto { SequenceType = new() { ElemType = map } },
            }
        );
        var fidelity = (await Compressed.RunAsync(folder, model, Int8)).Report.Fidelity;
        Assert.InRange(fidelity.Cosine!.Value, 0.999, 0.99999999);
        Assert.NotNull(fidelity.Top1Agreement);
        Assert.Equal([("label", 0L), ("probabilities", 8 * 64L)], fidelity.Outputs.Select(o => (o.Name, o.Compared)));
    }

    [Theory]
    [InlineData("rtn")]
    [InlineData("gptq, bits: 4")]
    [InlineData("rtn, bits: mixed")]
    [InlineData("static")]
    [InlineData("float16, compute: true")]
    public async Task A_model_that_takes_strings_is_published_without_a_comparison(string method)
    {
        using var folder = new Folder();
        var keys = new AttributeProto
        {
            Name = "keys_strings",
            Type = AttributeProto.Types.AttributeType.Strings,
            Strings = { Google.Protobuf.ByteString.CopyFromUtf8("a") },
        };
        var values = new AttributeProto
        {
            Name = "values_int64s",
            Type = AttributeProto.Types.AttributeType.Ints,
            Ints = { 1 },
        };
        var model = OfOpset(17, "ai.onnx.ml")
            .Input("word", DataType.String, 4)
            .Weight("table", 64, 64)
            .Weight("w", 64, 64)
            .With(
                Node("ai.onnx.ml:LabelEncoder", ["word"], ["token"], keys, values),
                Node("Gather", ["table", "token"], ["e"]),
                Node("MatMul", ["e", "w"], ["y"])
            )
            .Output("y");
        model.OpsetImport.Single(o => o.Domain == "ai.onnx.ml").Version = 2;
        var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{method: {method}}}\n");
        Assert.Equal(("none", 0, (double?)null), (done.Report.Fidelity.Source, done.Report.Fidelity.Samples, done.Report.Fidelity.Cosine));
        Assert.Null(done.Report.Latency);
        Assert.Contains("The result was loaded but not compared with the original: the input 'word' takes String.", done.Report.Warnings);
        Assert.True(done.Report.Size.Ratio < 0.6);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public async Task Data_that_is_not_finite_is_refused_before_the_work(float number)
    {
        // microsoft/onnxruntime#23749.
        using var folder = new Folder();
        var (values, stages) = (Random("x", 8, 64), new List<RunStatus>());
        values[5 * 64 + 7] = number;
        var model = folder.Write("m.onnx", Perceptron("y").Output("y"));
        var refused = await Assert.ThrowsAsync<BadInputException>(() =>
            Compressed.RunAsync(folder, model, Int8, Data(folder, values, 8), null, stages)
        );
        Assert.Contains("array 'x': sample 5 (from 0) holds NaN or infinity", refused.Message);
        Assert.DoesNotContain(stages, s => s.Stage == "Compress");
    }

    [Fact]
    public async Task Data_of_zeros_is_told_of()
    {
        using var folder = new Folder();
        var model = folder.Write("m.onnx", Perceptron("y").Output("y"));
        var done = await Compressed.RunAsync(folder, model, Int8, Data(folder, new float[8 * 64], 8));
        Assert.Contains("The data is zero in every sample compared ('x'): check how data.npz was written.", done.Report.Warnings);
    }

    [Theory]
    [InlineData("")]
    [InlineData("budget: {maxAccuracyLoss: 0.5}\n")]
    public async Task An_attempt_that_puts_out_what_is_no_number_is_followed_by_a_gentler_one(string budget)
    {
        using var folder = new Folder();
        // The logarithm of a sum that rounding to two bits makes negative.
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Weight("w", 64, 64)
            .Weight("v", 64, 64)
            .Initializer(Tensor("margin", [0.004f], 1))
            .With(
                Node("MatMul", ["x", "w"], ["a"]),
                Node("Identity", ["x"], ["b"]),
                Node("MatMul", ["b", "copy"], ["c"]),
                Node("Sub", ["a", "c"], ["d"]),
                Node("Abs", ["d"], ["e"]),
                Node("Sub", ["margin", "e"], ["f"]),
                Node("Log", ["f"], ["y"])
            )
            .Output("y");
        model.Graph.Initializer.Remove(model.Graph.Initializer.Single(t => t.Name == "v"));
        model.Initializer(Tensor("copy", Random("w", 64, 64), 64, 64));
        var recipe = $"version: 1\n{budget}steps:\n- quantize: {{bits: 2, protect: 0}}\nlayers:\n- {{match: copy, skip: true}}\n";
        var done = await Compressed.RunAsync(folder, model, recipe);
        Assert.True(done.Report.Attempts > 1);
        Assert.True(double.IsFinite(done.Report.Fidelity.RelativeError!.Value));
        Assert.Equal("succeeded", done.Report.Status);
    }

    private static string Data(Folder folder, float[] values, int samples)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(path, ("x", "<f4", [samples, 64], MemoryMarshal.AsBytes(values.AsSpan()).ToArray()));
        return path;
    }

    private static ModelProto Perceptron(string output) =>
        OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Weight("w", 64, 128)
            .Weight("v", 128, 64)
            .With(Node("MatMul", ["x", "w"], ["m"]), Node("Relu", ["m"], ["r"]), Node("MatMul", ["r", "v"], [output]));
}
