using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Results of <c>store: small</c>: smaller, the same numbers, nothing left to decode at a run, and unpacked again.</summary>
public class EntropyCodedTests
{
    private const string Small = "version: 1\nstore: small\nsteps:\n";

    public static TheoryData<string> Steps =>
        [
            "- quantize: {bits: 8, group: channel, protect: 0}",
            "- quantize: {bits: 5, symmetric: false, group: channel, protect: 0}",
            "- quantize: {bits: 3, group: channel, scale: absmax, protect: 0}",
            "- prune: {sparsity: 0.9}\n- quantize: {bits: 4, group: channel, protect: 0}",
            "- quantize: {method: ternary, protect: 0}",
            "- prune: {sparsity: 0.6}\n- quantize: {method: watersic, bits: 2.5, protect: 0}",
        ];

    [Theory]
    [MemberData(nameof(Steps))]
    public async Task The_file_is_smaller_and_puts_out_the_same(string steps)
    {
        using var folder = new Folder();
        var model = Model(13);
        var plain = await Compressed.RunAsync(folder, model.Clone(), $"version: 1\nsteps:\n{steps}\n");
        var coded = await Compressed.RunAsync(folder, model.Clone(), $"{Small}{steps}\n");
        var size = coded.Report.Size.After;
        Assert.True(size < plain.Report.Size.After, $"{size} of {plain.Report.Size.After}");
        Assert.Equal(new FileInfo(coded.File).Length, size);
        Assert.NotNull(coded.Report.EntropyCoding);
        Assert.Contains(coded.Report.Warnings, w => w.Contains("unpack", StringComparison.Ordinal));
        Assert.All(coded.Report.Layers.Where(l => l.EntropyCoded), l => Assert.InRange(l.BytesAfter, 1, l.BytesBefore));
        // What layers are said to take, and what is beside them, make up the file.
        Assert.InRange(coded.Report.Layers.Sum(l => l.BytesAfter), size * 0.9, size);
        Assert.DoesNotContain(OptimizedOperators(coded.File).Keys, o => o is "Gather" or "Split" or "Where" or "CumSum" or "Cast");
        var (optimized, unoptimized) = (Run(coded.File), Run(coded.File, GraphOptimizationLevel.ORT_DISABLE_ALL));
        for (var i = 0; i < optimized.Length; i++)
            Assert.Equal(optimized[i], unoptimized[i], 1e-4 * (1 + Math.Abs(optimized[i])));
        if (!steps.Contains("watersic", StringComparison.Ordinal))
            Assert.Equal(Run(plain.File), optimized);

        var unpacked = await UnpackAsync(folder, coded.File);
        Assert.Empty(unpacked.Functions);
        Assert.Equal(optimized, Run(Path.Combine(folder.Path, "unpacked", ModelWriter.ModelName)));
    }

    [Theory]
    [InlineData(9)]
    [InlineData(11)]
    [InlineData(22)]
    public async Task Any_operator_set_that_has_the_operators_will_do(int opset)
    {
        using var folder = new Folder();
        var coded = await Compressed.RunAsync(folder, Model(opset), $"{Small}- quantize: {{bits: 6, group: channel, protect: 0}}\n");
        Assert.NotNull(coded.Report.EntropyCoding);
        Assert.Equal(Math.Max(11, opset), ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(coded.File)).OpsetImport[0].Version);
    }

    [Fact]
    public async Task An_older_operator_set_stays_packed_and_says_why()
    {
        using var folder = new Folder();
        var plain = await Compressed.RunAsync(folder, Model(8), $"{Small}- quantize: {{method: watersic, bits: 2.5, protect: 0}}\n");
        Assert.Null(plain.Report.EntropyCoding);
        Assert.Contains(plain.Report.Warnings, w => w.Contains("CumSum", StringComparison.Ordinal));
        Assert.Contains("GPTQ", plain.Report.Layers.Single(l => l.Name == "w").Fallback!);
    }

    [Fact]
    public async Task Weights_in_branches_are_decoded_outside_them()
    {
        using var folder = new Folder();
        var branch = (string name, string weight) =>
        {
            var graph = new GraphProto { Name = name };
            graph.Initializer.Add(Tensor(weight, Random(weight, 256, 256), 256, 256));
            graph.Node.Add(Node("MatMul", ["x", weight], [name + "_y"]));
            graph.Output.Add(new ValueInfoProto { Name = name + "_y" });
            return graph;
        };
        var model = OfOpset(13)
            .Input("x", DataType.Float, 4, 256)
            .Input("c", DataType.Bool)
            .With(Node("If", ["c"], ["y"], Subgraph("then_branch", branch("a", "v")), Subgraph("else_branch", branch("b", "w"))))
            .Output("y");
        var coded = await Compressed.RunAsync(folder, model, $"{Small}- quantize: {{bits: 6, group: channel, protect: 0}}\n");
        Assert.NotNull(coded.Report.EntropyCoding);
        var left = OptimizedOperators(coded.File);
        Assert.DoesNotContain(left.Keys, o => o is "Gather" or "Split" or "Cast");
    }

    [Theory]
    [InlineData("no dims", "nothing to unpack")]
    [InlineData("dims of an input", "nothing to unpack")]
    [InlineData("no functions", "refuses")]
    public async Task A_decoder_that_was_tampered_with_is_refused_in_a_sentence(string how, string why)
    {
        using var folder = new Folder();
        var coded = await Compressed.RunAsync(folder, Model(13), $"{Small}- quantize: {{bits: 6, group: channel, protect: 0}}\n");
        var model = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(coded.File));
        foreach (var node in model.Graph.Node.Where(n => n.OpType == "Reshape"))
            if (how == "no dims")
                node.Input.RemoveAt(1);
            else if (how == "dims of an input")
                node.Input[1] = "x";
        if (how == "no functions")
            model.Functions.Clear();
        var file = Path.Combine(folder.Path, "tampered.onnx");
        await File.WriteAllBytesAsync(file, model.ToByteArray());
        var refused = await Assert.ThrowsAsync<BadInputException>(() => UnpackAsync(folder, file));
        Assert.Contains(why, refused.Message);
    }

    // The sizes of so many pieces are a tensor that the indexer leaves in the file.
    [Fact]
    public async Task Many_weights_are_unpacked()
    {
        const int Layers = 40;
        using var folder = new Folder();
        var model = OfOpset(13).Input("x", DataType.Float, 4, 600).Weight("w0", 600, 64);
        for (var i = 1; i < Layers; i++)
            model.Weight($"w{i}", 64, 64);
        for (var i = 0; i < Layers; i++)
            model.With(Node("MatMul", [i == 0 ? "x" : $"h{i - 1}", $"w{i}"], [i == Layers - 1 ? "y" : $"h{i}"]));
        var coded = await Compressed.RunAsync(folder, model.Output("y"), $"{Small}- quantize: {{bits: 8, group: channel, protect: 0}}\n");
        Assert.Equal(Layers, coded.Report.EntropyCoding!.Constants);
        await UnpackAsync(folder, coded.File);
        Assert.Equal(Run(coded.File), Run(Path.Combine(folder.Path, "unpacked", ModelWriter.ModelName)));
    }

    // The file of one weight with 16 values, its decoder included, over the entropy of what the weight became: the decoder takes 5 kB with
    // its tables, which very sparse weights do not make small.
    [Theory]
    [InlineData(1024, 1024, 0.5, 1.05)]
    [InlineData(1024, 1024, 0.9, 1.08)]
    [InlineData(784, 300, 0.5, 1.15)]
    [InlineData(784, 300, 0.92, 1.32)]
    public async Task A_file_is_as_large_as_the_entropy_of_its_symbols(int rows, int columns, double zeros, double most)
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, rows)
            .Weight("w", rows, columns)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var steps = $"- prune: {{sparsity: {zeros}}}\n- share: {{method: codebook, bits: 4}}\n";
        var coded = await Compressed.RunAsync(folder, model, Small + steps);
        var counts = Lowered
            .Run(await File.ReadAllBytesAsync(coded.File), Path.Combine(folder.Path, "optimized.onnx"))
            .Graph.Graph.Initializer.MaxBy(t => t.RawData.Length)!
            .RawData.ToByteArray()
            .Chunk(4)
            .CountBy(b => BitConverter.ToSingle(b))
            .Select(c => (double)c.Value);
        var entropy = counts.Sum(c => c / (rows * columns) * Math.Log2(rows * columns / c)) / 8 * rows * columns;
        var ratio = coded.Report.Size.After / entropy;
        Assert.True(
            ratio <= most,
            $"{ratio} of {entropy:0} {coded.Report.EntropyCoding} {string.Join(',', coded.Report.Layers.Select(l => l.Form))}"
        );
    }

    // Two layers, the second's rows of different spread.
    private static ModelProto Model(int opset)
    {
        var wide = Random("v", 400, 600);
        for (var i = 0; i < wide.Length; i++)
            wide[i] *= 1 + i / 600 / 100;
        return OfOpset(opset)
            .Input("x", DataType.Float, 4, 600)
            .Weight("w", 600, 400)
            .Initializer(Tensor("v", wide, 400, 600))
            .With(Node("MatMul", ["x", "w"], ["h"]), Node("Relu", ["h"], ["r"]), Node("MatMul", ["r", "v"], ["y"]))
            .Output("y");
    }

    private static async Task<ModelProto> UnpackAsync(Folder folder, string file)
    {
        var store = new FolderStore(new Dictionary<string, string> { ["drop"] = Path.GetDirectoryName(file)!, ["out"] = folder.Path });
        await UnpackedModel.WriteAsync(store, $"drop/{Path.GetFileName(file)}", "out/unpacked", CancellationToken.None);
        return ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(Path.Combine(folder.Path, "unpacked", ModelWriter.ModelName)));
    }

    private static float[] Run(string file, GraphOptimizationLevel level = GraphOptimizationLevel.ORT_ENABLE_ALL)
    {
        using var options = new SessionOptions
        {
            GraphOptimizationLevel = level,
            IntraOpNumThreads = 1,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        using var session = new InferenceSession(file, options);
        using var run = new RunOptions();
        using var x = OrtValue.CreateTensorValueFromMemory(Random("x", 4, 600), [4, 600]);
        using var results = session.Run(run, new Dictionary<string, OrtValue> { ["x"] = x }, ["y"]);
        return results[0].GetTensorDataAsSpan<float>().ToArray();
    }
}
