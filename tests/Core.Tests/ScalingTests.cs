using Google.Protobuf;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Activations;
using Serverless.Core.Techniques.Quantization;
using Serverless.Core.Techniques.Simplification;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>
/// Work grows with the model and no faster: at four times the size it takes at most five times as long. Processor time of
/// this process, the least of three runs, with no other test beside it.
/// </summary>
[Collection("scaling")]
public sealed class ScalingTests : IDisposable
{
    private readonly Folder folder = new();

    public void Dispose() => folder.Dispose();

    [CollectionDefinition("scaling", DisableParallelization = true)]
    public class Alone;

    // A session a layer on the whole model up to it would take sixteen times as long.
    [Fact]
    public void Bias_correction_grows_with_the_layers() =>
        Growth.Linear(
            100,
            n =>
            {
                var model = OfOpset(13).Input("x0", DataType.Float, 1, 4, 6, 6);
                for (var i = 0; i < n; i++)
                    model
                        .Weight($"w{i}", 4, 4, 3, 3)
                        .Initializer(Tensor($"b{i}", new float[4], 4))
                        .With(
                            Node("Conv", [$"x{i}", $"w{i}", $"b{i}"], [$"c{i}"], ModelEdit.Attribute("pads", [1L, 1, 1, 1])),
                            Node("Relu", [$"c{i}"], [$"x{i + 1}"])
                        );
                model.Output($"x{n}");
                var biases = Enumerable.Range(0, n).ToDictionary(i => $"c{i}", i => model.Graph.Initializer[2 * i + 1]);
                var samples = Enumerable.Range(0, 8).Select(s => Given("x0", [1, 4, 6, 6], s)).ToList();
                return () =>
                {
                    using var live = new LiveValues();
                    StagedRun.Run(
                        model,
                        Path.GetTempPath(),
                        biases.Keys.ToHashSet(),
                        samples,
                        live,
                        (_, _, _) => { },
                        c => biases[c].RawData = ByteString.CopyFrom(new byte[16]),
                        default
                    );
                };
            }
        );

    [Fact]
    public void Dropping_dead_nodes_grows_with_the_nodes() =>
        Growth.Linear(
            4_000,
            n =>
            {
                var model = OfOpset(13).Input("x", DataType.Float, 1).With(Node("Neg", ["x"], ["y"])).Output("y");
                for (var i = 0; i < n; i++)
                    model.With(Node("Relu", [i == 0 ? "x" : $"d{i - 1}"], [$"d{i}"]));
                return () =>
                {
                    var edit = new ModelEdit(model.Clone());
                    edit.DropDead(default);
                    Assert.Single(edit.Model.Graph.Node);
                };
            }
        );

    [Fact]
    public void Checking_a_graph_grows_with_the_initializers_that_are_inputs() =>
        Growth.Linear(
            20_000,
            n =>
            {
                var model = OfOpset(13).Input("x", DataType.Float, 1).With(Node("Neg", ["x"], ["y"])).Output("y");
                var tensor = Tensor("", [0f], 1);
                for (var i = 0; i < n; i++)
                {
                    var named = tensor.Clone();
                    named.Name = $"i{i}";
                    model.Initializer(named).Graph.Input.Add(new ValueInfoProto { Name = named.Name });
                }
                return () => GraphCheck.Check("m.onnx", model, default);
            }
        );

    [Fact]
    public void Tensors_that_share_bytes_are_one_however_many_they_are() =>
        Growth.Linear(
            5_000,
            n =>
            {
                folder.Write("w.bin", new byte[16 << 10]);
                var model = OfOpset(13).Input("x0", DataType.Float, 1, 64);
                for (var i = 0; i < n; i++)
                {
                    var tensor = new TensorProto
                    {
                        Name = $"w{i}",
                        DataType = (int)DataType.Float,
                        Dims = { 64, 64 },
                    };
                    TensorRef.Point(tensor, "w.bin", 0, 16 << 10);
                    model.Initializer(tensor).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
                }
                folder.Write("m.onnx", model.Output($"x{n}"));
                return () =>
                {
                    var index = ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", default).GetAwaiter().GetResult();
                    var edit = new ModelEdit(index.Model);
                    ConstantMerging.Apply(edit);
                    ConstantMerging.MergeShared(edit);
                    Assert.Equal(n, Assert.Single(Weight.Of(index.Model)).Uses.Count);
                };
            }
        );

    [Fact]
    public void Attributes_take_time_and_memory_as_they_are_many() =>
        Growth.Linear(
            20_000,
            n =>
            {
                var node = Node("Relu", ["x"], ["y"]);
                for (var i = 0; i < n; i++)
                    node.Attribute.Add(ModelEdit.Attribute($"a{i}", 1L));
                folder.Write("m.onnx", OfOpset(13).Input("x", DataType.Float, 1).With(node).Output("y"));
                return () =>
                {
                    var before = GC.GetAllocatedBytesForCurrentThread();
                    var index = ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", default).GetAwaiter().GetResult();
                    Assert.Empty(Weight.Of(index.Model));
                    Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 2000L * n);
                };
            }
        );

    [Fact]
    public void Putting_layers_into_a_graph_grows_with_the_layers() =>
        Growth.Linear(
            4_000,
            n =>
            {
                var model = OfOpset(13).Input("x0", DataType.Float, 1, 4);
                for (var i = 0; i < n; i++)
                    model.Weight($"w{i}", 4, 4).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
                model.Output($"x{n}");
                return () =>
                {
                    var edit = new ModelEdit(model.Clone());
                    var weights = Weight.Of(edit.Model);
                    var dynamic = new DynamicGraph(edit);
                    using (edit.Batch(weights.Select(w => ModelEdit.Outermost(w.Scope)).Distinct()))
                    {
                        for (var i = 0; i < n; i++)
                        {
                            var layer = new EncodedLayer(
                                i % 2 == 0 ? FormName.Folded : FormName.Dynamic,
                                new LayerShape(1, 4, 4),
                                new AffineGrid(8, 4, 1, true, new ShardNumbers(new ShardRange(16, 16), (int)DataType.Float), null),
                                new ShardRange(0, 16),
                                0,
                                16
                            );
                            var setting = new Setting(new DynamicInteger(), new DynamicIntegerOptions());
                            var coded = new CodedLayer(weights[i], layer, "work/s", new LayerPlan(layer.Form, 8, 4, 0, 0), setting);
                            if (!dynamic.Take(coded))
                                Form.Apply(edit, weights[i], layer, "work/s");
                        }
                    }
                    Assert.DoesNotContain(edit.Model.Graph.Initializer, t => t.Name == "w0");
                };
            }
        );

    [Fact]
    public void Folding_grows_with_the_nodes_folded() =>
        Growth.Linear(
            2_000,
            n =>
            {
                var model = OfOpset(13)
                    .Input("x0", DataType.Float, 1)
                    .Initializer(Tensor("three", [3f]))
                    .Initializer(Tensor("six", [6f]))
                    .Initializer(Tensor("zero", [0f]));
                for (var i = 0; i < n; i++)
                    model.With(
                        Node("Add", [$"x{i}", "three"], [$"a{i}"]),
                        Node("Clip", [$"a{i}", "zero", "six"], [$"c{i}"]),
                        Node("Mul", [$"x{i}", $"c{i}"], [$"m{i}"]),
                        Node("Div", [$"m{i}", "six"], [$"x{i + 1}"])
                    );
                model.Output($"x{n}");
                return () => Assert.Equal(n, HardSwishFolding.Apply(new ModelEdit(model.Clone())));
            }
        );

    [Fact]
    public void What_ends_a_layer_is_found_without_a_search_through_the_graph() =>
        Growth.Linear(
            4_000,
            n =>
            {
                var model = OfOpset(13).Input("x0", DataType.Float, 1, 4);
                for (var i = 0; i < n; i++)
                    model.Weight($"w{i}", 4, 4).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"c{i}"]), Node("Relu", [$"c{i}"], [$"x{i + 1}"]));
                model.Output($"x{n}");
                return () =>
                    Assert.All(Weight.Of(model), w => Assert.StartsWith("x", QdqGraph.Output(w.Uses[0]), StringComparison.Ordinal));
            }
        );

    // All shards together read the samples once, whether there are many or few.
    [Fact]
    public void Calibration_shards_read_their_own_samples_alone()
    {
        var read = new[] { 16, 64 }
            .Select(shards =>
            {
                var path = Path.Combine(folder.Path, "data.npz");
                Npz.Write(
                    path,
                    System.IO.Compression.CompressionLevel.NoCompression,
                    ("x", "<f4", [shards * 4, 1024], new byte[shards * 4 * 4096])
                );
                long total = 0;
                for (var shard = 0; shard < shards; shard++)
                {
                    using var file = new CountedStream(File.OpenRead(path));
                    using var data = new NpzData(
                        file,
                        "data.npz",
                        [new InputSpec("x", Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float, [null, 1024], ["", ""])]
                    );
                    var opened = file.BytesRead;
                    Assert.Equal(4, data.Read(shard * 4).Take(4).Count());
                    total += file.BytesRead - opened;
                }
                return total;
            })
            .ToArray();
        Assert.True(read[1] <= 4.5 * read[0], $"{read[0]} bytes, {read[1]} at four times as many");
    }

    internal static Sample Given(string name, long[] shape, int seed)
    {
        var random = new Random(seed);
        var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
            values[i] = random.NextSingle();
        return new Sample(
            new Dictionary<string, TensorValue>
            {
                [name] = new(
                    Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float,
                    shape,
                    System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values).ToArray()
                ),
            },
            null
        );
    }

    private sealed class CountedStream(Stream inner) : Stream
    {
        public long BytesRead { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => false;

        public override long Length => inner.Length;

        public override long Position
        {
            get => inner.Position;
            set => inner.Position = value;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            var read = inner.Read(buffer);
            BytesRead += read;
            return read;
        }

        public override long Seek(long offset, SeekOrigin origin) => inner.Seek(offset, origin);

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush() => inner.Flush();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                inner.Dispose();
            base.Dispose(disposing);
        }
    }
}
