using BenchmarkDotNet.Attributes;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>MatMulNBits beside a float MatMul of the same shape: where the storage forms' thresholds come from.</summary>
[InProcess, WarmupCount(3), IterationCount(8)]
public class FormBenchmarks
{
    private readonly RunOptions run = new();
    private InferenceSession? session;
    private OrtValue? input;

    [Params("120x360", "512x512", "1024x4096", "4096x4096")]
    public string Shape { get; set; } = "";

    [Params(1, 40)]
    public int Rows { get; set; }

    [Params("float", "8/32", "4/32", "2/32", "2/64")]
    public string Weight { get; set; } = "";

    [GlobalSetup]
    public void Setup()
    {
        var parts = Shape.Split('x').Select(long.Parse).ToArray();
        var (k, n) = (parts[0], parts[1]);
        var model = new ModelProto
        {
            IrVersion = 8,
            Graph = new GraphProto { Name = "form" },
        };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 17 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        model.Graph.Input.Add(
            new ValueInfoProto
            {
                Name = "x",
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        model.Graph.Output.Add(
            new ValueInfoProto
            {
                Name = "y",
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        if (Weight == "float")
        {
            model.Graph.Initializer.Add(Filled("w", DataType.Float, k * n * 4, k, n));
            model.Graph.Node.Add(ModelEdit.Node("MatMul", ["x", "w"], ["y"]));
        }
        else
        {
            var (bits, block) = (long.Parse(Weight.Split('/')[0]), long.Parse(Weight.Split('/')[1]));
            var blocks = (k + block - 1) / block;
            model.Graph.Initializer.Add(Filled("q", DataType.Uint8, n * blocks * block * bits / 8, n, blocks, block * bits / 8));
            model.Graph.Initializer.Add(Filled("s", DataType.Float, n * blocks * 4, n, blocks));
            model.Graph.Node.Add(
                ModelEdit.Node(
                    "com.microsoft:MatMulNBits",
                    ["x", "q", "s"],
                    ["y"],
                    ModelEdit.Attribute("K", k),
                    ModelEdit.Attribute("N", n),
                    ModelEdit.Attribute("bits", bits),
                    ModelEdit.Attribute("block_size", block),
                    ModelEdit.Attribute("accuracy_level", 4)
                )
            );
        }
        session = new InferenceSession(model.ToByteArray());
        input = OrtValue.CreateTensorValueFromMemory(new float[Rows * k], [Rows, k]);
    }

    [Benchmark]
    public void Multiply()
    {
        using var outputs = session!.Run(run, ["x"], [input!], ["y"]);
    }

    [GlobalCleanup]
    public void Cleanup() => session?.Dispose();

    private static TensorProto Filled(string name, DataType type, long bytes, params long[] dims)
    {
        var data = new byte[bytes];
        if (type == DataType.Uint8)
            new Random(1).NextBytes(data);
        else
            System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(data.AsSpan()).Fill(0.01f);
        var tensor = new TensorProto
        {
            Name = name,
            DataType = (int)type,
            RawData = ByteString.CopyFrom(data),
        };
        tensor.Dims.AddRange(dims);
        return tensor;
    }
}
