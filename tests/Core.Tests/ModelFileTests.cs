using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

public class ModelFileTests
{
    private static readonly CancellationToken None = CancellationToken.None;

    public static TheoryData<string> Names => [.. RealModels.Ocr, .. RealModels.Vad];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Real_models_come_through_a_round_trip_byte_for_byte(string name)
    {
        using var folder = new Folder();
        var original = File.ReadAllBytes(RealModels.File(name));
        folder.Write("m.onnx", original);
        foreach (var limit in new[] { ModelWriter.ProtobufLimit, 1000 })
        {
            var index = await ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None);
            await ModelWriter.WriteAsync(
                folder.Store,
                index.Model,
                "drop",
                new Dictionary<string, string>(),
                $"drop/out{limit}",
                limit,
                None
            );
            // Stock ONNX Runtime loads both forms.
            using (new Microsoft.ML.OnnxRuntime.InferenceSession(Path.Combine(folder.Path, $"out{limit}", "model.onnx"))) { }
            Assert.Equal(limit == 1000, File.Exists(Path.Combine(folder.Path, $"out{limit}", "model.onnx.data")));
            var before = await WeightBytes(folder, "drop/m.onnx");
            var after = await WeightBytes(folder, $"drop/out{limit}/model.onnx");
            Assert.Equal(before.Keys.Order(), after.Keys.Order());
            foreach (var (key, bytes) in before)
                Assert.True(bytes.AsSpan().SequenceEqual(after[key]), key);
        }
    }

    [Fact]
    public async Task Weights_are_found_in_every_place_and_form()
    {
        using var folder = new Folder();
        await File.WriteAllBytesAsync(
            Path.Combine(folder.Path, "w.bin"),
            MemoryMarshal.AsBytes<float>(Random("external", 64, 8)).ToArray()
        );
        var external = new TensorProto
        {
            Name = "external",
            DataType = 1,
            Dims = { 64, 8 },
        };
        TensorRef.Point(external, "w.bin", 0, 64 * 8 * 4);
        var typed = new TensorProto
        {
            Name = "typed",
            DataType = 1,
            Dims = { 64, 8 },
        };
        typed.FloatData.AddRange(Random("typed", 64, 8));
        var half = new TensorProto
        {
            Name = "half",
            DataType = (int)DataType.Float16,
            Dims = { 64, 8 },
        };
        half.Int32Data.AddRange(Random("half", 64, 8).Select(v => (int)BitConverter.HalfToUInt16Bits((Half)v)));
        var brain = Tensor(
            "brain",
            DataType.Bfloat16,
            MemoryMarshal.AsBytes<ushort>(Random("brain", 64, 8).Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)).ToArray()),
            64,
            8
        );
        var wide = Tensor(
            "wide",
            DataType.Double,
            MemoryMarshal.AsBytes<double>(Random("wide", 64, 8).Select(v => (double)v).ToArray()),
            64,
            8
        );
        var inner = new GraphProto { Name = "then" };
        inner.Node.Add(
            Node(
                "Constant",
                [],
                ["inner"],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = Tensor("", Random("inner", 64, 8), 64, 8),
                }
            )
        );
        inner.Node.Add(Node("MatMul", ["x", "inner"], ["then_y"]));
        inner.Node.Add(Node("MatMul", ["x", "outer"], ["then_z"]));
        inner.Output.Add(Value("then_y", DataType.Float));
        inner.Output.Add(Value("then_z", DataType.Float));
        var model = OfOpset(17)
            .Input("x", DataType.Float, 2, 64)
            .Input("c", DataType.Bool)
            .Initializer(external)
            .Initializer(typed)
            .Initializer(half)
            .Initializer(brain)
            .Initializer(wide)
            .Weight("outer", 64, 8)
            .Weight("biased", 64)
            .With(
                Node("MatMul", ["x", "external"], ["a"]),
                Node("MatMul", ["x", "typed"], ["b"]),
                Node("MatMul", ["h", "half"], ["d"]),
                Node("MatMul", ["h", "brain"], ["e"]),
                Node("MatMul", ["h", "wide"], ["f"]),
                Node("If", ["c"], ["g", "i"], Subgraph("then_branch", inner)),
                Node("Add", ["x", "biased"], ["h"])
            )
            .Output("a");
        folder.Write("m.onnx", model);
        var index = await ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None);
        var weights = Weight.Of(index.Model).ToDictionary(w => w.Name);
        Assert.Equal(["biased", "brain", "external", "half", "inner", "outer", "typed", "wide"], weights.Keys.Order());
        Assert.Contains("Add", weights["biased"].SkipReason);
        Assert.All(weights.Values.Where(w => w.Name != "biased"), w => Assert.Null(w.SkipReason));
        Assert.Equal("Constant node in subgraph", weights["inner"].Place);
        Assert.Equal("w.bin", weights["external"].Reference.File);
        Assert.True(index.Model.CalculateSize() < model.CalculateSize() - 64 * 8 * 4 * 3);
    }

    [Fact]
    public void A_weight_that_leaves_the_graph_or_meets_an_unknown_operator_is_left_alone()
    {
        var model = OfOpset(17, "custom")
            .Input("x", DataType.Float, 2, 8)
            .Weight("given", 8, 8)
            .Weight("odd", 8, 8)
            .Weight("shared", 8, 8)
            .Weight("transposed", 8, 8)
            .With(
                Node("MatMul", ["x", "given"], ["a"]),
                Node("custom:Mystery", ["x", "odd"], ["b"]),
                Node("MatMul", ["x", "shared"], ["c"]),
                Node("MatMul", ["c", "shared"], ["d"]),
                Node("Transpose", ["transposed"], ["t"]),
                Node("MatMul", ["d", "t"], ["y"])
            )
            .Output("y")
            .Output("given");
        var weights = Weight.Of(model).ToDictionary(w => w.Name);
        Assert.Equal("an output of its graph", weights["given"].SkipReason);
        Assert.Contains("custom.Mystery", weights["odd"].SkipReason);
        Assert.Equal(2, weights["shared"].Uses.Count);
        Assert.False(Assert.Single(weights["transposed"].Uses).Direct);
    }

    [Fact]
    public void Unknown_fields_enum_values_and_versions_survive()
    {
        var model = OfOpset(17).Input("x", DataType.Float, 1).With(Node("Relu", ["x"], ["y"])).Output("y");
        model.IrVersion = 4711;
        model.Graph.Node[0].Attribute.Add(new AttributeProto { Name = "new", Type = (AttributeProto.Types.AttributeType)77 });
        model.Graph.Initializer.Add(new TensorProto { Name = "future", DataType = 99 });
        byte[] bytes = [.. model.ToByteArray(), .. new byte[] { 0xfa, 0x3e, 2, 8, 1 }];
        Assert.Equal(bytes.Length, ModelProto.Parser.ParseFrom(bytes).CalculateSize());
        Assert.Equal(bytes.Order(), ModelProto.Parser.ParseFrom(bytes).ToByteArray().Order());
    }

    [Fact]
    public async Task Indexing_a_model_of_nearly_2_GB_takes_little_memory()
    {
        using var folder = new Folder();
        const int Tensors = 60;
        const long Each = 32 << 20;
        var path = Path.Combine(folder.Path, "m.onnx");
        var model = OfOpset(17).Input("x", DataType.Float, 1, 4096);
        for (var i = 0; i < Tensors; i++)
            model.With(Node("MatMul", ["x", $"w{i}"], [$"y{i}"])).Output($"y{i}");
        // Inline weights as a sparse file: a graph field of 2 GB, its tensors' raw_data left as holes.
        await using (var file = new FileStream(path, FileMode.Create))
        {
            var body = model.Graph.ToByteArray();
            var heads = Enumerable
                .Range(0, Tensors)
                .Select(i =>
                {
                    var message = Tensor($"w{i}", DataType.Float, default, 4096, Each / 4 / 4096);
                    message.ClearRawData();
                    byte[] raw = [.. message.ToByteArray(), .. Varint(9 << 3 | 2), .. Varint(Each)];
                    return (byte[])[.. Varint(5 << 3 | 2), .. Varint(raw.Length + Each), .. raw];
                })
                .ToList();
            var shell = model.Clone();
            shell.Graph = null;
            file.Write(shell.ToByteArray());
            file.Write([.. Varint(7 << 3 | 2), .. Varint(body.Length + heads.Sum(h => h.Length + Each))]);
            file.Write(body);
            foreach (var head in heads)
            {
                file.Write(head);
                file.Seek(Each, SeekOrigin.Current);
            }
            file.SetLength(file.Position);
        }
        var before = GC.GetTotalAllocatedBytes(true);
        var index = await ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None);
        Assert.True(GC.GetTotalAllocatedBytes(true) - before < 8 << 20);
        Assert.Equal(Tensors, Weight.Of(index.Model).Count);
    }

    [Theory]
    [InlineData("../secret")]
    [InlineData("/etc/passwd")]
    [InlineData("a/../../b")]
    [InlineData("C:\\x")]
    [InlineData("@work/x")]
    [InlineData("")]
    public async Task External_paths_that_leave_the_drop_are_refused(string location)
    {
        using var folder = new Folder();
        var tensor = new TensorProto
        {
            Name = "w",
            DataType = 1,
            Dims = { 8, 8 },
        };
        TensorRef.Point(tensor, location, 0, 256);
        folder.Write(
            "m.onnx",
            OfOpset(17).Input("x", DataType.Float, 1, 8).Initializer(tensor).With(Node("MatMul", ["x", "w"], ["y"])).Output("y")
        );
        var e = await Assert.ThrowsAsync<BadInputException>(() => ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None));
        Assert.Contains("initializer 'w'", e.Message);
    }

    [Theory]
    [InlineData(-1, 0, 256)]
    [InlineData(8, -4, 256)]
    [InlineData(8, 1 << 20, 256)]
    [InlineData(8, 0, 255)]
    [InlineData(1L << 40, 0, 256)]
    public async Task Impossible_dims_offsets_and_lengths_are_refused(long dim, long offset, long length)
    {
        using var folder = new Folder();
        folder.Write("w.bin", new byte[1024]);
        var tensor = new TensorProto
        {
            Name = "w",
            DataType = 1,
            Dims = { dim, 8 },
        };
        TensorRef.Point(tensor, "w.bin", offset, length);
        folder.Write(
            "m.onnx",
            OfOpset(17).Input("x", DataType.Float, 1, 8).Initializer(tensor).With(Node("MatMul", ["x", "w"], ["y"])).Output("y")
        );
        await Assert.ThrowsAsync<BadInputException>(() => ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None));
    }

    [Fact]
    public async Task A_cycle_a_double_definition_and_a_dangling_use_are_refused()
    {
        using var folder = new Folder();
        foreach (
            var (model, word) in new[]
            {
                (OfOpset(17).With(Node("Relu", ["b"], ["a"]), Node("Relu", ["a"], ["b"])).Output("a"), "cycle"),
                (
                    OfOpset(17).Input("x", DataType.Float, 1).With(Node("Relu", ["x"], ["a"]), Node("Relu", ["x"], ["a"])).Output("a"),
                    "twice"
                ),
                (OfOpset(17).With(Node("Relu", ["nowhere"], ["a"])).Output("a"), "nothing defines"),
            }
        )
        {
            folder.Write("m.onnx", model);
            Assert.Contains(
                word,
                (await Assert.ThrowsAsync<BadInputException>(() => ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", None))).Message
            );
        }
    }

    private static byte[] Varint(long value)
    {
        var bytes = new List<byte>();
        for (var v = (ulong)value; ; v >>= 7)
        {
            bytes.Add((byte)(v >= 0x80 ? v | 0x80 : v));
            if (v < 0x80)
                return [.. bytes];
        }
    }

    private static async Task<Dictionary<string, byte[]>> WeightBytes(Folder folder, string path)
    {
        var index = await ModelIndexer.IndexAsync(folder.Store, path, None);
        var found = new Dictionary<string, byte[]>();
        foreach (var w in Weight.Of(index.Model))
        {
            if (w.Reference.File is not { } file)
            {
                found[w.Name] = TensorRef.InlineBytes(w.Tensor).ToArray();
                continue;
            }
            await using var reader = await folder.Store.OpenAsync($"{index.Folder}/{file}", null, None);
            found[w.Name] = new byte[w.Reference.Length];
            await reader.ReadAsync(w.Reference.Offset, found[w.Name], None);
        }
        return found;
    }
}
