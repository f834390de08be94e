using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Bytes coded at their entropy come back to the bit, from the reference and from ONNX Runtime at every optimization level.</summary>
public class EntropyCodingTests
{
    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(2, 2, 1)]
    [InlineData(3, 256, 1)]
    [InlineData(64, 5, 3)]
    [InlineData(1000, 256, 7)]
    [InlineData(100_000, 17, 50)]
    public void The_reference_decodes_what_was_encoded(int lanes, int alphabet, int steps)
    {
        foreach (var skew in new[] { 0, 1, 4, 40.0 })
        {
            var bytes = Bytes(new Random(lanes + alphabet), lanes * steps, alphabet, skew);
            var table = new FrequencyTable(FrequencyTable.Count(bytes));
            var tables = Enumerable.Repeat(table, lanes).ToList();
            foreach (var last in new[] { 0, Math.Min(2, steps) })
                Assert.Equal(bytes, RansStream.TryEncode(bytes, steps, last, tables, CancellationToken.None)!.Decode(tables));
            var stream = RansStream.TryEncode(bytes, steps, 0, tables, CancellationToken.None)!;
            Assert.Equal(FrequencyTable.Total, table.Frequencies.Sum(f => f));
            // A state has 32 bits; what they say of the lane's last symbols is not in the words.
            var bits = 16.0 * stream.Words.Length + 32.0 * lanes;
            Assert.True(bits <= table.Bits(FrequencyTable.Count(bytes)) * 1.001 + 32 * lanes + 32);
        }
    }

    [Theory]
    [InlineData(11)]
    [InlineData(13)]
    [InlineData(17)]
    [InlineData(22)]
    public void Nodes_decode_to_the_bit_at_every_optimization_level(int opset)
    {
        var random = new Random(opset);
        for (var trial = 0; trial < 6; trial++)
        {
            var model = OfOpset(opset).Input("x", DataType.Float, 1);
            var constants = new List<byte[]>();
            for (var c = 0; c <= trial % 4; c++)
            {
                var alphabet = random.Next(1, 257);
                constants.Add(Bytes(random, random.Next(1, 30_000), alphabet, random.Next(4) * 3));
                var type = c % 2 == 0 ? DataType.Uint8 : DataType.Int8;
                model
                    .Initializer(Tensor($"q{c}", type, constants[^1], 1, constants[^1].Length))
                    .With(
                        Node("Cast", [$"q{c}"], [$"f{c}"], ModelEdit.Attribute("to", (long)DataType.Float)),
                        Node("Add", [$"f{c}", "x"], [$"y{c}"])
                    )
                    .Output($"y{c}");
            }
            var edit = new ModelEdit(model);
            var coded = EntropyCoding.Code([.. constants.Select(c => new ReadOnlyMemory<byte>(c))], 0.06, CancellationToken.None);
            if (coded is null)
                continue;
            RansNodes.Add(edit, coded.Stream, [.. model.Graph.Initializer.ToList().Select(t => (edit.Roots[0], t))]);
            foreach (var level in Enum.GetValues<GraphOptimizationLevel>())
            {
                var (outputs, graph) = Run(model.ToByteArray(), level);
                for (var c = 0; c < constants.Count; c++)
                {
                    var expected = constants[c].Select(b => (float)(c % 2 == 0 ? b : (sbyte)b)).ToArray();
                    Assert.Equal(expected, outputs[$"y{c}"]);
                }
                if (level != GraphOptimizationLevel.ORT_DISABLE_ALL)
                    Assert.All(graph.Graph.Node, n => Assert.Equal("Add", n.OpType));
            }
        }
    }

    [Fact]
    public void Blocks_of_different_distributions_have_tables_of_their_own()
    {
        var random = new Random(1);
        byte[] bytes = [.. Bytes(random, 40_000, 16, 6), .. Bytes(random, 40_000, 16, 0).Select(b => (byte)(b + 100))];
        var coded = EntropyCoding.Code([bytes], 0.2, CancellationToken.None)!;
        Assert.Equal(2, coded.Stream.Tables.Count);
        Assert.True(coded.Bytes[0] < FrequencyTable.Entropy(FrequencyTable.Count(bytes)) / 8);
    }

    [Fact]
    public void What_holds_no_redundancy_stays()
    {
        var bytes = new byte[100_000];
        new Random(1).NextBytes(bytes);
        Assert.Null(EntropyCoding.Code([bytes], 0.2, CancellationToken.None));
    }

    private static byte[] Bytes(Random random, int count, int alphabet, double skew)
    {
        var bytes = new byte[count];
        for (var i = 0; i < count; i++)
            bytes[i] = (byte)(alphabet * Math.Pow(random.NextDouble(), 1 + skew));
        return bytes;
    }

    private static (Dictionary<string, float[]> Outputs, ModelProto Graph) Run(byte[] model, GraphOptimizationLevel level)
    {
        using var folder = new Folder();
        var optimized = Path.Combine(folder.Path, "optimized.onnx");
        using var options = new SessionOptions
        {
            OptimizedModelFilePath = optimized,
            GraphOptimizationLevel = level,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        using var session = new InferenceSession(model, options);
        using var run = new RunOptions();
        using var x = OrtValue.CreateTensorValueFromMemory(new float[1], [1]);
        using var results = session.Run(run, new Dictionary<string, OrtValue> { ["x"] = x }, session.OutputNames);
        return (
            session.OutputNames.Zip(results).ToDictionary(o => o.First, o => o.Second.GetTensorDataAsSpan<float>().ToArray()),
            ModelProto.Parser.ParseFrom(File.ReadAllBytes(optimized))
        );
    }
}
