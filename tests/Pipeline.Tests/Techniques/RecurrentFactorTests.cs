using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>Input weights of recurrent layers as products: a MatMul in front of the layer, which both directions share.</summary>
public class RecurrentFactorTests
{
    private const int Inputs = 40,
        Units = 10,
        Rank = 6;

    [Theory]
    [InlineData("LSTM", 4, false, "svd")]
    [InlineData("LSTM", 4, true, "svd")]
    [InlineData("GRU", 3, true, "svd")]
    [InlineData("RNN", 1, true, "drone")]
    public async Task A_product_in_front_computes_what_the_layer_with_the_product_would(string op, int gates, bool both, string method)
    {
        using var folder = new Folder();
        var model = Net(op, gates, both);
        var recipe = $"version: 1\nsteps:\n- factorize: {{rank: {Rank}, method: {method}}}\n";
        var done = await Compressed.RunAsync(folder, model.Clone(), recipe);
        var made = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        Assert.Equal(["MatMul", op], made.Graph.Node.Select(n => n.OpType).Where(t => t is "MatMul" or "LSTM" or "GRU" or "RNN"));
        var (first, second) = (Of(made, "MatMul"), Of(made, op));
        var directions = both ? 2 : 1;
        Assert.Equal([Inputs, Rank], first.Dims);
        Assert.Equal([directions, gates * Units, Rank], second.Dims);
        var product = (Matrix(first, Inputs, Rank) * Matrix(second, directions * gates * Units, Rank).Transpose()).Transpose();
        if (method == "svd")
        {
            var w = Matrix<double>.Build.DenseOfRowMajor(
                directions * gates * Units,
                Inputs,
                [.. Random("w", directions, gates * Units, Inputs).Select(v => (double)v)]
            );
            var best = w.Svd(computeVectors: false).S.Skip(Rank).Sum(s => s * s);
            Assert.Equal(best, (w - product).Enumerate().Sum(v => v * v), 1e-5 * best);
        }
        model.Graph.Initializer.Single(t => t.Name == "w").RawData = Google.Protobuf.ByteString.CopyFrom(
            MemoryMarshal.AsBytes<float>(product.ToRowMajorArray().Select(v => (float)v).ToArray())
        );
        var (expected, _) = Lowered.Run(Google.Protobuf.MessageExtensions.ToByteArray(model), Path.Combine(folder.Path, "e.onnx"));
        var (actual, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-5));
    }

    [Fact]
    public async Task Weights_of_the_recurrence_stay_and_the_factors_are_layers_for_the_steps_behind()
    {
        using var folder = new Folder();
        var recipe = $"version: 1\nsteps:\n- factorize: {{rank: {Rank}, method: drone}}\n- prune: {{sparsity: 0.5}}\n";
        var done = await Compressed.RunAsync(folder, Net("LSTM", 4, true), recipe);
        var layers = done.Report.Layers.ToDictionary(l => l.Name);
        Assert.Equal(["factorize: drone", "prune: magnitude"], layers["w/1"].Steps);
        Assert.Equal(["factorize: drone", "prune: magnitude"], layers["w/2"].Steps);
        Assert.Contains("inside the operator", Assert.Single(layers["r"].NotApplied).Reason, StringComparison.Ordinal);
    }

    private static TensorProto Of(ModelProto model, string op) =>
        model.Graph.Initializer.Single(t => t.Name == model.Graph.Node.Single(n => n.OpType == op).Input[1]);

    private static Matrix<double> Matrix(TensorProto t, int rows, int columns) =>
        Matrix<double>.Build.DenseOfRowMajor(
            rows,
            columns,
            [.. MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray().Select(v => (double)v)]
        );

    private static ModelProto Net(string op, int gates, bool both)
    {
        var directions = both ? 2 : 1;
        var direction = new AttributeProto
        {
            Name = "direction",
            S = Google.Protobuf.ByteString.CopyFromUtf8(both ? "bidirectional" : "forward"),
            Type = AttributeProto.Types.AttributeType.String,
        };
        return OfOpset(14)
            .Input("x", DataType.Float, 7, 3, Inputs)
            .Weight("w", directions, gates * Units, Inputs)
            .Weight("r", directions, gates * Units, Units)
            .Weight("b", directions, 2 * gates * Units)
            .With(Node(op, ["x", "w", "r", "b"], ["y"], direction, ModelEdit.Attribute("hidden_size", (long)Units)))
            .Output("y");
    }
}
