using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Runs;

/// <summary>
/// Compares a model of one product with itself, before the first request of a process that was started early: ONNX Runtime is loaded and
/// the code of a comparison compiled while the host still reads the user's model.
/// </summary>
internal static class Rehearsal
{
    private const int Width = 4;
    private static readonly RunRequest Run = new("rehearsal", "drop/m.onnx", "drop/recipe.yaml", null, "work/r", "work/layers", "out/r");

    /// <summary>Writes what a run would have written so far to a folder, and gives the request.</summary>
    public static async Task<ModelRequest> PrepareAsync(string folder, CancellationToken cancellation)
    {
        var spec = new StoreSpec(new Dictionary<string, string> { ["drop"] = Path.Combine(folder, "drop") }).With(
            ("work", Path.Combine(folder, "work")),
            ("out", Path.Combine(folder, "out"))
        );
        var store = spec.Open();
        var model = Model().ToByteArray();
        var assembled = $"{RunPaths.Assembled(Run.Work, 0)}/{ModelWriter.ModelName}";
        await store.WriteBytesAsync(Run.Model, model, cancellation);
        await store.WriteBytesAsync(assembled, model, cancellation);
        await store.WriteBytesAsync(
            RunPaths.Recipe(Run.Work),
            "version: 1\npreset: int8\nevaluate: {latency: false}\n"u8.ToArray(),
            cancellation
        );
        await store.WriteJsonAsync(RunPaths.Files(Run.Work), new Dictionary<string, string>(), cancellation);
        var input = new EvaluateInput(Run, 0) { Parts = new RunParts([], []) };
        return new ModelRequest(nameof(Evaluate), JsonSerializer.SerializeToElement(input, Json.Options), spec, long.MaxValue);
    }

    private static ModelProto Model()
    {
        var weight = ModelEdit.Tensor(Enumerable.Repeat(1f, Width * Width).ToArray(), Width, Width);
        weight.Name = "w";
        return new ModelProto
        {
            IrVersion = 7,
            OpsetImport = { new OperatorSetIdProto { Version = 13 } },
            Graph = new GraphProto
            {
                Name = "rehearsal",
                Input = { Value("x") },
                Output = { Value("y") },
                Initializer = { weight },
                Node = { ModelEdit.Node("MatMul", ["x", "w"], ["y"]) },
            },
        };
    }

    private static ValueInfoProto Value(string name)
    {
        var shape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dimension { DimValue = Width } } };
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto
            {
                TensorType = new TypeProto.Types.Tensor { ElemType = (int)DataType.Float, Shape = shape },
            },
        };
    }
}
