using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model.Schema;

namespace Serverless.TestSupport;

/// <summary>What integer kernels do of a model's convolutions.</summary>
internal static class IntegerWork
{
    /// <summary>The nodes of a model as ONNX Runtime runs it, and the dimensions of its constants.</summary>
    public static IReadOnlyList<NodeProto> Optimized(string file, out IReadOnlyDictionary<string, long[]> dims)
    {
        var model = Optimized(file);
        dims = model.Graph.Initializer.ToDictionary(t => t.Name, t => t.Dims.ToArray());
        return model.Graph.Node;
    }

    /// <summary>Multiplications of QLinearConv over those of all convolutions, in the graph as ONNX Runtime runs it.</summary>
    /// <param name="file">A model of pictures.</param>
    /// <param name="height">Of a picture.</param>
    /// <param name="width">Of a picture.</param>
    public static double Share(string file, int height, int width)
    {
        var model = Optimized(file);
        var weights = model.Graph.Initializer.ToDictionary(t => t.Name, t => t.Dims.ToArray());
        var convolutions = model.Graph.Node.Where(n => n.OpType is "Conv" or "FusedConv" or "QLinearConv").ToList();
        // The outputs' sizes, read off by running the optimized graph with them as outputs.
        var known = model.Graph.Output.Select(o => o.Name).ToHashSet();
        foreach (var n in convolutions.Where(n => !known.Contains(n.Output[0])))
            model.Graph.Output.Add(new ValueInfoProto { Name = n.Output[0] });
        using var session = new InferenceSession(Google.Protobuf.MessageExtensions.ToByteArray(model));
        using var input = OrtValue.CreateTensorValueFromMemory(new float[3 * height * width], [1, 3, height, width]);
        using var run = new RunOptions();
        using var outputs = session.Run(run, session.InputNames, [input], [.. convolutions.Select(n => n.Output[0])]);
        double all = 0,
            integers = 0;
        foreach (var (n, value) in convolutions.Zip(outputs))
        {
            var work =
                value.GetTensorTypeAndShape().ElementCount
                * weights[n.Input[n.OpType == "QLinearConv" ? 3 : 1]][1..].Aggregate(1L, (a, b) => a * b);
            all += work;
            if (n.OpType == "QLinearConv")
                integers += work;
        }
        return integers / all;
    }

    private static ModelProto Optimized(string file)
    {
        var optimized = Path.Combine(Path.GetDirectoryName(file)!, "optimized.onnx");
        using (
            var options = new SessionOptions
            {
                OptimizedModelFilePath = optimized,
                GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
                LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
            }
        )
        using (new InferenceSession(file, options)) { }
        return ModelProto.Parser.ParseFrom(File.ReadAllBytes(optimized));
    }
}
