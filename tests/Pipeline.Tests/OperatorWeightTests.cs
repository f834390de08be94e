using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Operators whose weights were left, or treated as if they were another's, each known from a public bug report.</summary>
public class OperatorWeightTests
{
    [Fact]
    public async Task Embedding_tables_inside_an_operator_of_onnx_runtime_are_compressed()
    {
        // microsoft/onnxruntime#8124.
        using var folder = new Folder();
        var model = OfOpset(17, "com.microsoft")
            .Input("ids", DataType.Int32, 1, 8)
            .Input("types", DataType.Int32, 1, 8)
            .Weight("words", 300, 64)
            .Weight("positions", 64, 64)
            .Weight("segments", 2, 64)
            .Initializer(Tensor("gamma", Enumerable.Repeat(1f, 64).ToArray(), 64))
            .Initializer(Tensor("beta", new float[64], 64))
            .With(
                Node(
                    "com.microsoft:EmbedLayerNormalization",
                    ["ids", "types", "words", "positions", "segments", "gamma", "beta"],
                    ["y", "mask"]
                )
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 4, protect: 0}\n");
        Assert.True(done.Report.Size.Ratio < 0.25, done.Report.Size.ToString());
        Assert.All(done.Report.Layers.Where(l => l.Name is "words" or "positions"), l => Assert.Equal("Folded", l.Form));
        Assert.Contains("a scale or offset", OperandOf("com.microsoft:SkipLayerNormalization", 2));
    }

    [Theory]
    [InlineData("DeformConv", 1, null)]
    [InlineData("com.microsoft:MoE", 2, null)]
    [InlineData("GatherND", 0, null)]
    [InlineData("Add", 1, "an operand of Add, which is no weight")]
    [InlineData("Where", 1, "an operand of Where, which is no weight")]
    [InlineData("Conv", 2, "a bias of Conv, too small to matter")]
    [InlineData("LSTM", 3, "a bias or first state of LSTM, too small to matter")]
    [InlineData("LayerNormalization", 1, "a scale or offset of LayerNormalization, too small to matter")]
    [InlineData("Resize", 2, "a parameter of Resize, which is no weight")]
    [InlineData("custom:Mystery", 1, "used by custom.Mystery, which is not known here")]
    public void The_report_says_in_plain_words_what_a_constant_is(string op, int input, string? reason) =>
        Assert.Equal(reason, OperandOf(op, input));

    [Fact]
    public async Task Dynamic_int8_takes_a_linear_layer_as_torch_exports_it()
    {
        // microsoft/onnxruntime#25890: Gemm with transB.
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 4, 256)
            .Weight("w", 192, 256)
            .Weight("b", 192)
            .With(Node("Gemm", ["x", "w", "b"], ["y"], ModelEdit.Attribute("transB", 1L)))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: dynamic, onlyIfFaster: false}\n");
        Assert.Equal(("Dynamic", (string?)null), done.Report.Layers.Where(l => l.Name == "w").Select(l => (l.Form, l.Fallback)).Single());
        Assert.True(done.Report.Fidelity.Cosine > 0.999, done.Report.Fidelity.ToString());
        var left = OptimizedOperators(done.File);
        Assert.Contains("DynamicQuantizeMatMul", left.Keys);
        Assert.DoesNotContain("Transpose", left.Keys);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task A_deconvolution_is_scaled_by_its_output_channels(long groups)
    {
        // microsoft/onnxruntime#19694: output channels of sizes 1 to 1e-3, each as near as the others.
        using var folder = new Folder();
        var weights = Random("w", 32, 8, 3, 3);
        for (var i = 0; i < weights.Length; i++)
            weights[i] *= MathF.Pow(10, -3f * (i / 9 % 8) / 7);
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 32, 6, 6)
            .Initializer(Tensor("w", weights, 32, 8, 3, 3))
            .With(
                Node("ConvTranspose", ["x", "w"], ["c"], ModelEdit.Attribute("group", groups)),
                Node("InstanceNormalization", ["c", "one", "none"], ["y"])
            )
            .Output("y")
            .Initializer(Tensor("one", Enumerable.Repeat(1f, 8 * (int)groups).ToArray(), 8 * groups))
            .Initializer(Tensor("none", new float[8 * groups], 8 * groups));
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {bits: 8, group: channel}\n");
        Assert.True(done.Report.Fidelity.RelativeError < 0.02, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task Weights_too_small_for_float16_become_bfloat16()
    {
        using var folder = new Folder();
        var tiny = Random("w", 64, 64).Select(v => v * 1e-8f).ToArray();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Initializer(Tensor("w", tiny, 64, 64))
            .Weight("v", 64, 64)
            .Initializer(Tensor("one", Enumerable.Repeat(1f, 64).ToArray(), 64))
            .With(
                Node("MatMul", ["x", "w"], ["h"]),
                Node("LayerNormalization", ["h", "one"], ["n"], ModelEdit.Attribute("epsilon", 1e-30f)),
                Node("MatMul", ["n", "v"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: float16}\n");
        Assert.True(done.Report.Fidelity.Cosine > 0.9999, done.Report.Fidelity.ToString());
        Assert.StartsWith("bfloat16: ", done.Report.Layers.Single(l => l.Name == "w").Fallback);
        Assert.Null(done.Report.Layers.Single(l => l.Name == "v").Fallback);
    }

    [Theory]
    [InlineData("keep")]
    [InlineData("constant")]
    public async Task Parameters_that_a_caller_may_override_are_constants_only_where_the_recipe_says_so(string inputs)
    {
        // microsoft/onnxruntime#4507.
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 16, 8, 8)
            .Weight("w", 32, 16, 3, 3)
            .Weight("scale", 32)
            .Weight("offset", 32)
            .Weight("mean", 32)
            .Initializer(Tensor("variance", Enumerable.Repeat(1f, 32).ToArray(), 32))
            .With(Node("Conv", ["x", "w"], ["c"]), Node("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["y"]))
            .Output("y");
        foreach (var name in new[] { "scale", "offset", "mean", "variance" })
            model.Graph.Input.Add(Value(name, DataType.Float, 32));
        model.Graph.Input.Add(Value("w", DataType.Float, 32, 16, 3, 3));
        var done = await Compressed.RunAsync(
            folder,
            model,
            $"version: 1\nsteps:\n- simplify: {{initializerInputs: {inputs}}}\n- quantize: {{bits: 8}}\n"
        );
        var given = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph.Input.Select(i => i.Name).ToList();
        if (inputs == "constant")
        {
            Assert.Equal(["x"], given);
            Assert.True(done.Report.Size.Ratio < 0.4);
            return;
        }
        Assert.Equal(6, given.Count);
        Assert.Contains(
            done.Report.Warnings,
            w =>
                w.StartsWith("Nothing got smaller. ", StringComparison.Ordinal)
                && w.Contains("'- simplify: {initializerInputs: constant}' makes it a constant", StringComparison.Ordinal)
        );
        var larger = Enumerable.Repeat(3f, 32).ToArray();
        Assert.Equal(Run(Path.Combine(folder.Path, "model", "m.onnx"), larger), Run(done.File, larger), (a, b) => Math.Abs(a - b) < 1e-4);
    }

    private static float[] Run(string file, float[] scale)
    {
        using var session = new InferenceSession(file);
        using var options = new RunOptions();
        using var x = OrtValue.CreateTensorValueFromMemory(Random("x", 1, 16, 8, 8), [1, 16, 8, 8]);
        using var s = OrtValue.CreateTensorValueFromMemory(scale, [32]);
        using var made = session.Run(options, ["x", "scale"], [x, s], ["y"]);
        return made[0].GetTensorDataAsSpan<float>().ToArray();
    }

    private static string? OperandOf(string op, int input)
    {
        var model = OfOpset(22, "com.microsoft", "custom")
            .Input("x", DataType.Float, 1, 64)
            .Weight("w", 64, 64, 3, 3)
            .With(Node(op, [.. Enumerable.Repeat("x", input), "w"], ["y"]))
            .Output("y");
        return LayerTasks.Of(model, Presets.Recipe(Presets.Default), 1, "drop").Single().SkipReason;
    }
}
