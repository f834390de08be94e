using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Sharing;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Constants that are equal, or nearly so, are stored once.</summary>
public class DuplicateTests
{
    private const string Recipe = "version: 1\nsteps:\n- share: {method: duplicates}\n";

    private static ModelProto Net(float[] second, DataType type = DataType.Float)
    {
        var first = Random("w", 64, 64);
        var model = OfOpset(17)
            .Input("x", type, "n", 64)
            .Initializer(Stored("w", type, first))
            .Initializer(Stored("v", type, second))
            .With(Node("MatMul", ["x", "w"], ["h"]), Node("Tanh", ["h"], ["t"]), Node("MatMul", ["t", "v"], ["y"]));
        model.Graph.Output.Add(Value("y", type, "n", 64));
        return model;
    }

    private static TensorProto Stored(string name, DataType type, float[] values) =>
        type == DataType.Float
            ? Tensor(name, values, 64, 64)
            : Tensor(name, type, MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, v => (Half)v)), 64, 64);

    [Theory]
    [InlineData(DataType.Float)]
    [InlineData(DataType.Float16)]
    public async Task Equal_weights_are_stored_once_and_the_outputs_stay(DataType type)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(Random("w", 64, 64), type), Recipe);
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        Assert.Single(graph.Initializer);
        var made = Assert.Single(Notes(done));
        Assert.Equal(
            ("w", "v", 64L * 64 * (type == DataType.Float ? 4 : 2), 0.0),
            (made.Kept, made.Others.Single(), made.BytesSaved, made.Distance)
        );
        Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 0, type == DataType.Float ? 0 : 1e-3);
        Assert.True(done.Report.Size.Before - done.Report.Size.After >= made.BytesSaved);
        var layer = Assert.Single(done.Report.Layers);
        Assert.Equal(2 * made.BytesSaved, layer.BytesBefore);
    }

    [Fact]
    public async Task Steps_behind_compress_it_once()
    {
        using var folder = new Folder();
        var net = Net(Random("w", 64, 64));
        var apart = await Compressed.RunAsync(folder, net, "version: 1\nsteps:\n- quantize: {bits: 8, group: 32}\n");
        var once = await Compressed.RunAsync(folder, net, Recipe + "- quantize: {bits: 8, group: 32}\n");
        Assert.Equal((2, 1), (apart.Report.Layers.Count, once.Report.Layers.Count));
        Assert.True(apart.Report.Size.After - once.Report.Size.After >= 64 * 64, $"{apart.Report.Size} {once.Report.Size}");
        Assert.Equal(apart.Report.Fidelity.RelativeError!.Value, once.Report.Fidelity.RelativeError!.Value, 1e-6);
    }

    [Theory]
    [InlineData(0.0, 0)]
    [InlineData(0.005, 0)]
    [InlineData(0.02, 1)]
    public async Task Near_equal_floats_become_their_mean(double tolerance, int shared)
    {
        using var folder = new Folder();
        var (first, noise) = (Random("w", 64, 64), Random("noise", 64, 64));
        var by = 0.01 * Norm(first) / Norm(noise);
        var second = first.Select((v, i) => (float)(v + by * noise[i])).ToArray();
        var recipe = FormattableString.Invariant($"version: 1\nsteps:\n- share: {{method: duplicates, tolerance: {tolerance}}}\n");
        var done = await Compressed.RunAsync(folder, Net(second), recipe);
        Assert.Equal(shared, Notes(done).Length);
        if (shared == 0)
            return;
        Assert.Equal(0.01, Notes(done)[0].Distance, 1e-4);
        var stored = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Single();
        var mean = first.Select((v, i) => (float)(((double)v + second[i]) / 2));
        Assert.Equal(mean, MemoryMarshal.Cast<byte, float>(stored.RawData.Span).ToArray());
        Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 1e-4, 0.02);
    }

    [Fact]
    public async Task What_holds_NaN_is_near_nothing()
    {
        using var folder = new Folder();
        var second = Random("w", 64, 64);
        second[5] = float.NaN;
        var done = await Compressed.RunAsync(folder, Net(second), Recipe.Replace("duplicates", "duplicates, tolerance: 0.5"));
        Assert.Empty(Notes(done));
    }

    [Fact]
    public async Task What_a_rule_skips_stays_as_it_is()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(Random("w", 64, 64)), Recipe + "layers:\n- {match: v, skip: true}\n");
        Assert.Empty(Notes(done));
        Assert.Equal(2, ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Count);
    }

    // A weight of each branch and one of the main graph, equal; the indices of a Gather twice, too.
    [Fact]
    public async Task Branches_and_the_main_graph_share()
    {
        using var folder = new Folder();
        var model = Branching();
        var done = await Compressed.RunAsync(folder, model, Recipe);
        var result = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File));
        var scopes = GraphScope.Of(result)[0].All().ToList();
        Assert.Equal(2, scopes.SelectMany(s => s.Graph!.Initializer).Count(t => t.Dims.Aggregate(1L, (a, b) => a * b) >= 64));
        Assert.Equal(["float", "int64"], Notes(done).Select(n => n.Others.Count == 2 ? "float" : "int64").Order());
        foreach (var condition in new[] { true, false })
            Assert.Equal(Run(model, condition), Run(result, condition));
    }

    private static ModelProto Branching()
    {
        long[] indices = [.. Enumerable.Range(0, 64).Select(i => (long)(63 - i))];
        GraphProto Branch(string name, string weight, string op)
        {
            var graph = new GraphProto { Name = name };
            graph.Initializer.Add(Tensor(weight, Random("w", 64, 64), 64, 64));
            graph.Initializer.Add(Tensor($"{weight}i", DataType.Int64, MemoryMarshal.AsBytes<long>(indices), 64));
            graph.Node.Add(Node("MatMul", ["h", weight], [$"{weight}m"]));
            graph.Node.Add(Node("Gather", [$"{weight}m", $"{weight}i"], [$"{weight}g"], ModelEdit.Attribute("axis", 1L)));
            graph.Node.Add(Node(op, [$"{weight}g"], [$"{weight}y"]));
            graph.Output.Add(Value($"{weight}y", DataType.Float, "n", 64));
            return graph;
        }
        var model = OfOpset(17)
            .Input("x", DataType.Float, "n", 64)
            .Input("c", DataType.Bool, 1)
            .Initializer(Tensor("w", Random("w", 64, 64), 64, 64))
            .With(
                Node("MatMul", ["x", "w"], ["h"]),
                Node(
                    "If",
                    ["c"],
                    ["y"],
                    Subgraph("then_branch", Branch("t", "a", "Tanh")),
                    Subgraph("else_branch", Branch("e", "b", "Relu"))
                )
            );
        return model.Output("y");
    }

    private static float[] Run(ModelProto model, bool condition)
    {
        using var session = new InferenceSession(Google.Protobuf.MessageExtensions.ToByteArray(model));
        using var x = OrtValue.CreateTensorValueFromMemory(Random("x", 3, 64), [3, 64]);
        using var c = OrtValue.CreateTensorValueFromMemory(new[] { condition }, [1]);
        using var options = new RunOptions();
        using var outputs = session.Run(options, ["x", "c"], [x, c], ["y"]);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }

    private static double Norm(float[] values) => Math.Sqrt(values.Sum(v => (double)v * v));

    private static SharedConstants[] Notes(Compressed done) =>
        done.Report.Notes[Duplicates.Field].Deserialize<SharedConstants[]>(Json.Options)!;
}
