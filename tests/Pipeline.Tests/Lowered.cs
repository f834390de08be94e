using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.TestSupport;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>A model whose layers were encoded and put into its graph: no run, no comparison, one session.</summary>
/// <param name="Encoded">Encodings by weight.</param>
/// <param name="Outputs">The output <c>y</c>.</param>
/// <param name="Graph">The graph that ONNX Runtime made of it at load.</param>
internal sealed record Lowered(IReadOnlyDictionary<string, EncodedLayer> Encoded, float[] Outputs, ModelProto Graph)
{
    /// <summary>The shard of each encoded weight.</summary>
    public IReadOnlyDictionary<string, byte[]> Shards { get; init; } = new Dictionary<string, byte[]>();

    /// <summary>Operator → how often the optimized graph has it, subgraphs included.</summary>
    public IReadOnlyDictionary<string, int> Optimized =>
        GraphScope
            .Of(Graph)
            .SelectMany(s => s.All())
            .SelectMany(s => s.Nodes)
            .GroupBy(n => n.OpType)
            .ToDictionary(g => g.Key, g => g.Count());

    /// <summary>The largest constant of floats in the optimized graph: a weight, decoded at load.</summary>
    public float[] LargestWeight =>
        MemoryMarshal
            .Cast<byte, float>(
                Graph.Graph.Initializer.Where(t => t.DataType == (int)DataType.Float).MaxBy(t => t.RawData.Length)!.RawData.Span
            )
            .ToArray();

    /// <summary>Encodes every layer of a model under a chain of steps, and runs the result.</summary>
    public static async Task<Lowered> Of(Folder folder, ModelProto model, params string[] steps)
    {
        var store = new FolderStore(new[] { "drop", "work" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
        await store.WriteBytesAsync("drop/m.onnx", Google.Protobuf.MessageExtensions.ToByteArray(model), CancellationToken.None);
        var index = await ModelIndexer.IndexAsync(store, "drop/m.onnx", CancellationToken.None);
        await new GraphWork(store, index, new Dictionary<string, string>(), "work/state").FinishAsync(CancellationToken.None);
        var recipe = RecipeReader.Read($"version: 1\nsteps:\n- {string.Join("\n- ", steps)}\n", "recipe.yaml");
        var context = new ActivityContext(store, new MemoryGate(1 << 30));
        var shards = new Dictionary<string, byte[]>();
        var (encoded, weights, edit) = (new Dictionary<string, EncodedLayer>(), Weight.Of(index.Model), new ModelEdit(index.Model));
        var tasks = LayerTasks.Of(index.Model, recipe, 1, "drop").ToDictionary(t => t.Name);
        foreach (var weight in weights.Where(w => tasks[w.Name].Step is not null))
        {
            var (stored, _) = await LayerCache.TakeAsync(context, "work", "work/shards", tasks[weight.Name], CancellationToken.None);
            Form.Prepare(edit, [stored.Layer]);
            Form.Apply(edit, weight, encoded[weight.Name] = stored.Layer, stored.Shard);
            shards[weight.Name] = await store.ReadBytesAsync(stored.Shard, int.MaxValue, CancellationToken.None);
        }
        await ModelWriter.WriteAsync(
            store,
            index.Model,
            "drop",
            new Dictionary<string, string>(),
            "work/out",
            ModelWriter.ProtobufLimit,
            CancellationToken.None
        );
        var file = Path.Combine(folder.Path, "work", "out", ModelWriter.ModelName);
        var (outputs, graph) = Run(await File.ReadAllBytesAsync(file), Path.Combine(folder.Path, "optimized.onnx"));
        return new Lowered(encoded, outputs, graph) { Shards = shards };
    }

    /// <summary>Runs a model on fixed inputs of its own names and shapes.</summary>
    public static (float[] Outputs, ModelProto Graph) Run(byte[] model, string optimized)
    {
        using var options = new SessionOptions
        {
            OptimizedModelFilePath = optimized,
            GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
            IntraOpNumThreads = 1,
        };
        using var session = new InferenceSession(model, options);
        var inputs = session.InputMetadata.ToDictionary(i => i.Key, i => Value(i.Key, i.Value));
        try
        {
            using var run = new RunOptions();
            using var results = session.Run(run, inputs, ["y"]);
            return (results[0].GetTensorDataAsSpan<float>().ToArray(), ModelProto.Parser.ParseFrom(File.ReadAllBytes(optimized)));
        }
        finally
        {
            foreach (var value in inputs.Values)
                value.Dispose();
        }
    }

    /// <summary>Cosine of two outputs.</summary>
    public static double Cosine(float[] a, float[] b) => TensorPrimitives.CosineSimilarity(a, b);

    // Indices stay below 7.
    private static OrtValue Value(string name, NodeMetadata input)
    {
        var dims = input.Dimensions.Select(d => (long)d).ToArray();
        var values = TestModels.Random(name, dims);
        return input.ElementDataType == Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Int64
            ? OrtValue.CreateTensorValueFromMemory(values.Select(v => (long)(Math.Abs(v) * 100) % 7).ToArray(), dims)
            : OrtValue.CreateTensorValueFromMemory(values, dims);
    }
}
