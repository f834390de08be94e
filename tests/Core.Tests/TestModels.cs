using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using Serverless.Core.Storage;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Builds small models in memory, and folders to put them in.</summary>
internal static class TestModels
{
    public static ModelProto OfOpset(int opset, params string[] domains)
    {
        var model = new ModelProto
        {
            IrVersion = opset < 9 ? 3 : 8,
            Graph = new GraphProto { Name = "g" },
        };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = opset });
        foreach (var d in domains)
            model.OpsetImport.Add(new OperatorSetIdProto { Domain = d, Version = 1 });
        return model;
    }

    public static ModelProto With(this ModelProto model, params NodeProto[] nodes)
    {
        model.Graph.Node.AddRange(nodes);
        return model;
    }

    public static ModelProto Input(this ModelProto model, string name, DataType type, params object[] dims)
    {
        model.Graph.Input.Add(Value(name, type, dims));
        return model;
    }

    public static ModelProto Output(this ModelProto model, string name)
    {
        model.Graph.Output.Add(
            new ValueInfoProto
            {
                Name = name,
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        return model;
    }

    public static ModelProto Weight(this ModelProto model, string name, params long[] dims)
    {
        model.Graph.Initializer.Add(Tensor(name, Random(name, dims), dims));
        return model;
    }

    public static ModelProto Initializer(this ModelProto model, TensorProto tensor)
    {
        model.Graph.Initializer.Add(tensor);
        return model;
    }

    public static ValueInfoProto Value(string name, DataType type, params object[] dims)
    {
        var shape = new TensorShapeProto();
        foreach (var d in dims)
            shape.Dim.Add(
                d is string s
                    ? new TensorShapeProto.Types.Dimension { DimParam = s }
                    : new TensorShapeProto.Types.Dimension { DimValue = Convert.ToInt64(d) }
            );
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto
            {
                TensorType = new() { ElemType = (int)type, Shape = shape },
            },
        };
    }

    public static TensorProto Tensor(string name, float[] values, params long[] dims) =>
        Tensor(name, DataType.Float, MemoryMarshal.AsBytes<float>(values), dims);

    public static TensorProto Tensor(string name, DataType type, ReadOnlySpan<byte> bytes, params long[] dims)
    {
        var tensor = new TensorProto
        {
            Name = name,
            DataType = (int)type,
            RawData = ByteString.CopyFrom(bytes),
        };
        tensor.Dims.AddRange(dims);
        return tensor;
    }

    /// <summary>Normal weights with a few outliers, the same for the same name.</summary>
    public static float[] Random(string name, params long[] dims)
    {
        var random = new Random(name.Aggregate(17, (h, c) => h * 31 + c));
        var values = new float[dims.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
        {
            var normal = NormalNumbers.Next(random);
            values[i] = (float)(0.1 * normal * (random.Next(100) == 0 ? 4 : 1));
        }
        return values;
    }

    public static NodeProto Node(string op, string[] inputs, string[] outputs, params AttributeProto[] attributes) =>
        ModelEdit.Node(op, inputs, outputs, attributes);

    /// <summary>An attribute that holds a graph, as the branches of an If are.</summary>
    public static AttributeProto Subgraph(string name, GraphProto graph) =>
        new()
        {
            Name = name,
            Type = AttributeProto.Types.AttributeType.Graph,
            G = graph,
        };

    /// <summary>Operator → how often it is left after ONNX Runtime's own optimization at load, subgraphs included.</summary>
    public static Dictionary<string, int> OptimizedOperators(string modelFile)
    {
        var optimized = Path.Combine(Path.GetDirectoryName(modelFile)!, "optimized.onnx");
        using (
            var options = new SessionOptions
            {
                OptimizedModelFilePath = optimized,
                GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
                LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
            }
        )
        using (new InferenceSession(modelFile, options)) { }
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(optimized));
        return GraphScope
            .Of(model)
            .SelectMany(s => s.All())
            .SelectMany(s => s.Nodes)
            .GroupBy(n => n.OpType)
            .ToDictionary(g => g.Key, g => g.Count());
    }
}

/// <summary>A folder that goes when the test does.</summary>
internal sealed class Folder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("serverless-test-").FullName;

    public FolderStore Store => new(new Dictionary<string, string> { ["drop"] = Path });

    public string Write(string name, byte[] bytes)
    {
        var path = System.IO.Path.Combine(Path, name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    public string Write(string name, ModelProto model) => Write(name, model.ToByteArray());

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
