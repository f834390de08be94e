using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Running a model stage by stage gives what running it whole up to each layer gives.</summary>
public class StagedRunTests
{
    private static readonly string[] Layers = ["c0", "c1", "c2", "c3", "c4"];

    // A residual sum, a branch used late, a layer taken inside an If, and integer kernels around the layers.
    private static ModelProto Branched(bool quantized)
    {
        var model = OfOpset(13).Input("x", DataType.Float, 1, 4, 6, 6).Input("go", DataType.Bool);
        model
            .Initializer(Tensor("step", [0.0217f]))
            .Initializer(Tensor("zero", DataType.Uint8, [128]))
            .Initializer(Tensor("small", [0.0113f]))
            .Initializer(Tensor("product", [0.0217f * 0.0113f]));
        var then = new GraphProto { Name = "then" };
        then.Node.Add(Node("Mul", ["c1", "q0"], ["inside"]));
        then.Output.Add(
            new ValueInfoProto
            {
                Name = "inside",
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        var other = new GraphProto { Name = "else" };
        other.Node.Add(Node("Identity", ["c1"], ["outside"]));
        other.Output.Add(
            new ValueInfoProto
            {
                Name = "outside",
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        var branch = Node("If", ["go"], ["taken"], Subgraph("then_branch", then), Subgraph("else_branch", other));
        Conv("x", 0);
        Rounded("c0", "q0");
        Conv("q0", 1);
        model.With(branch);
        Rounded("taken", "q1");
        Conv("q1", 2);
        model.With(Node("Relu", ["c2"], ["r2"]));
        Rounded("r2", "q2");
        Conv("q2", 3);
        model.With(Node("Add", ["c3", "q0"], ["sum"]));
        Rounded("sum", "q3");
        Conv("q3", 4);
        model.With(Node("Add", ["c4", "c1"], ["late"]), Node("Neg", ["late"], ["y"]), Node("Exp", ["x"], ["never"]));
        return model.Output("y").Output("never");

        void Conv(string input, int i)
        {
            var weight = $"w{i}";
            if (quantized)
            {
                var codes = Random(weight, 4, 4, 3, 3).Select(v => (byte)(sbyte)Math.Clamp(v * 400, -127, 127)).ToArray();
                model
                    .Initializer(Tensor($"w{i}_q", DataType.Int8, codes, 4, 4, 3, 3))
                    .With(Node("DequantizeLinear", [$"w{i}_q", "small"], [weight]));
            }
            else
                model.Weight(weight, 4, 4, 3, 3);
            // The scale of the products, as integer kernels want it; the first layer takes floats.
            if (quantized && i > 0)
                model
                    .Initializer(Tensor($"b{i}_q", DataType.Int32, MemoryMarshal.AsBytes<int>([100, -50, 20, -10]), 4))
                    .With(Node("DequantizeLinear", [$"b{i}_q", "product"], [$"b{i}"]));
            else
                model.Initializer(Tensor($"b{i}", Random($"b{i}", 4), 4));
            model.With(Node("Conv", [input, weight, $"b{i}"], [$"c{i}"], ModelEdit.Attribute("pads", [1L, 1, 1, 1])));
        }

        void Rounded(string value, string to)
        {
            if (quantized)
                model.With(
                    Node("QuantizeLinear", [value, "step", "zero"], [to + "_8"]),
                    Node("DequantizeLinear", [to + "_8", "step", "zero"], [to])
                );
            else
                model.With(Node("Identity", [value], [to]));
        }
    }

    [Theory]
    [InlineData(false, false, LiveValues.MemoryLimit)]
    [InlineData(true, false, LiveValues.MemoryLimit)]
    [InlineData(true, true, 0)]
    [InlineData(false, true, 2000)]
    public void Layers_shifted_one_after_the_other_are_as_if_each_was_measured_on_the_whole_model(bool quantized, bool turned, long memory)
    {
        var model = Branched(quantized);
        if (turned)
        {
            var nodes = model.Graph.Node.Reverse().ToList();
            model.Graph.Node.Clear();
            model.Graph.Node.AddRange(nodes);
        }
        var samples = Enumerable.Range(0, 5).Select(i => Given(i)).ToList();
        var expected = Shift(model.Clone(), samples);
        var staged = model.Clone();
        using var live = new LiveValues(memory);
        var (seen, sums) = (new List<string>(), new double[4]);
        StagedRun.Run(
            staged,
            Path.GetTempPath(),
            Layers.ToHashSet(),
            samples.Select(s => s),
            live,
            (_, values, _) => Add(sums, values),
            layer =>
            {
                seen.Add(layer);
                for (var c = 0; c < 4; c++)
                    Assert.Equal(expected[layer][c], sums[c], 1e-3);
                Apply(staged, layer, sums);
                Array.Clear(sums);
            },
            default
        );
        Assert.Equal(Layers, seen);
    }

    [Fact]
    public void Every_node_is_run_at_most_twice_and_what_no_layer_needs_never()
    {
        var stages = LayerStages.Of(Branched(quantized: true), Layers.ToHashSet());
        var times = stages
            .SelectMany(s => s.Part.Nodes)
            .Where(n => n.OpType != "DequantizeLinear")
            .GroupBy(n => n.Output[0])
            .ToDictionary(g => g.Key, g => g.Count());
        Assert.All(times, t => Assert.InRange(t.Value, 1, 2));
        Assert.DoesNotContain("never", times.Keys);
        Assert.DoesNotContain("y", times.Keys);
        // Codes, not the floats they stand for, go from stage to stage, so that integer kernels stay whole.
        Assert.Contains("q0_8", stages[^1].Part.Inputs.Concat(stages[^2].Part.Inputs));
        Assert.DoesNotContain(stages.SelectMany(s => s.Part.Inputs), n => n is "q0" or "q1" or "q2" or "q3" or "w1");
    }

    [Fact]
    public void A_layer_of_constants_alone_is_measured_too()
    {
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, 2)
            .Weight("a", 1, 2)
            .Weight("w", 2, 2)
            .Weight("b", 2)
            .With(Node("Gemm", ["a", "w", "b"], ["c"]), Node("Relu", ["c"], ["r"]), Node("Gemm", ["x", "w", "r"], ["d"]))
            .Output("d");
        using var live = new LiveValues();
        var seen = new List<string>();
        StagedRun.Run(
            model,
            Path.GetTempPath(),
            new HashSet<string> { "c", "d" },
            [ScalingTests.Given("x", [1, 2], 1)],
            live,
            (name, _, _) => seen.Add(name),
            _ => { },
            default
        );
        Assert.Equal(["c", "d"], seen);
    }

    [Fact]
    public void Values_beyond_the_limit_of_the_file_are_refused()
    {
        using var live = new LiveValues(0, fileLimit: 8192);
        var samples = Enumerable.Range(0, 5).Select(i => Given(i));
        Assert.Throws<LiveLimitException>(() =>
            StagedRun.Run(Branched(true), Path.GetTempPath(), Layers.ToHashSet(), samples, live, (_, _, _) => { }, _ => { }, default)
        );
    }

    [Fact]
    public void Cancelled_between_layers_it_stops()
    {
        using var live = new LiveValues();
        using var stop = new CancellationTokenSource();
        var done = 0;
        Assert.ThrowsAny<OperationCanceledException>(() =>
            StagedRun.Run(
                Branched(true),
                Path.GetTempPath(),
                Layers.ToHashSet(),
                [Given(0)],
                live,
                (_, _, _) => { },
                _ =>
                {
                    done++;
                    stop.Cancel();
                },
                stop.Token
            )
        );
        Assert.Equal(1, done);
    }

    [Fact]
    public async Task Samples_are_read_as_they_run_by_a_model_of_one_part()
    {
        using var folder = new Folder();
        folder.Write("m.onnx", Branched(false));
        var index = await ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", default);
        var (read, seen) = (0, 0);
        var count = await ValueTap.RunAsync(
            folder.Path,
            index,
            new HashSet<string> { "c4" },
            Enumerable
                .Range(0, 6)
                .Select(i =>
                {
                    Assert.InRange(read++ - seen, 0, Environment.ProcessorCount - 1);
                    return Given(i);
                }),
            (_, _, _) => seen++,
            _ => Task.CompletedTask,
            default
        );
        Assert.Equal((6, 6, 6), (count, read, seen));
    }

    private static Sample Given(int seed)
    {
        var inputs = ScalingTests.Given("x", [1, 4, 6, 6], seed).Inputs.ToDictionary();
        inputs["go"] = new TensorValue(Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Bool, [], [(byte)(seed % 2)]);
        return new Sample(inputs, null);
    }

    // A session a layer on the whole model up to it, as the model is written: optimized, ONNX Runtime moves codes across the If.
    private static Dictionary<string, double[]> Shift(ModelProto model, List<Sample> samples)
    {
        var found = new Dictionary<string, double[]>();
        foreach (var layer in Layers)
        {
            model.Graph.Output.Clear();
            model.Graph.Output.Add(new ValueInfoProto { Name = layer });
            var part = model.Clone();
            var order = GraphCheck.TopologicalOrder(model.Graph.Node)!.Select(i => part.Graph.Node[i]).ToList();
            part.Graph.Node.Clear();
            part.Graph.Node.AddRange(order);
            using var options = new SessionOptions
            {
                GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL,
                LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
            };
            using var session = new InferenceSession(part.ToByteArray(), options);
            var sums = found[layer] = new double[4];
            foreach (var sample in samples)
            {
                var inputs = sample
                    .Inputs.Where(i => session.InputMetadata.ContainsKey(i.Key))
                    .ToDictionary(i => i.Key, i => i.Value.ToOrt());
                using var run = new RunOptions();
                using var values = session.Run(run, inputs, [layer]);
                Add(sums, values[0].GetTensorDataAsSpan<float>());
            }
            Apply(model, layer, sums);
        }
        return found;
    }

    private static void Add(double[] sums, ReadOnlySpan<float> values)
    {
        for (var i = 0; i < values.Length; i++)
            sums[i / 36] += values[i];
    }

    private static void Apply(ModelProto model, string layer, double[] sums)
    {
        var initializers = model.Graph.Initializer.ToDictionary(t => t.Name);
        var codes = initializers.ContainsKey($"b{layer[1..]}_q");
        var by = sums.Select(s => -(float)Math.Round(s / 180, 4)).ToArray();
        if (codes)
            initializers["products"] = Tensor("products", Enumerable.Repeat(0.0217f * 0.0113f, 4).ToArray(), 4);
        new BiasPlace(codes ? $"b{layer[1..]}_q" : $"b{layer[1..]}", codes ? "products" : null).Shift(initializers, by);
    }
}
