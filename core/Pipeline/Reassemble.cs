using Serverless.Core.Numerics;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Onnx.Simplification;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="Reassemble"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt.</param>
public sealed record ReassembleInput(RunRequest Request, int Attempt);

/// <summary>The assembled model.</summary>
/// <param name="Bytes">Its size, external data included.</param>
/// <param name="Parameters">Weights of the model.</param>
/// <param name="Nonzero">Those that are not zero after decoding.</param>
public sealed record Reassembled(long Bytes, long Parameters, long Nonzero);

/// <summary>Puts the compressed layers into the graph and streams the model out.</summary>
public sealed class Reassemble : Activity<ReassembleInput, Reassembled>
{
    private const double NamesWorthwhile = 0.01;

    /// <inheritdoc/>
    public override async Task<Reassembled> RunAsync(ReassembleInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var model = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(request.Work), int.MaxValue, cancellation));
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunNames.Files(request.Work), cancellation);
        var results = await LayersAsync(store, request.Work, input.Attempt, cancellation);
        var edit = new ModelEdit(model);
        long parameters = 0, nonzero = 0;
        var folder = StorePath.Parent(request.Model);
        foreach (var weight in Weight.Of(model))
        {
            parameters += weight.Reference.Elements;
            if (results.TryGetValue(weight.Name, out var stored))
            {
                nonzero += stored.Layer.Nonzero;
                Forms.Apply(edit, weight, stored.Layer, stored.Shard);
            }
            else nonzero += await NonzeroAsync(store, weight, folder, etags, cancellation);
        }
        if (recipe.Simplify.Names == NameStyle.Short) ShortenWhereWorthwhile(model);
        var bytes = await ModelWriter.WriteAsync(store, model, folder, etags, RunNames.Assembled(request.Work, input.Attempt), ModelWriter.ProtobufLimit, cancellation);
        return new Reassembled(bytes, parameters, nonzero);
    }

    /// <summary>The layers of an attempt that were compressed, by weight.</summary>
    private static async Task<Dictionary<string, StoredLayer>> LayersAsync(IArtifactStore store, string work, int attempt, CancellationToken cancellation)
    {
        var results = await LayerRecords.ResultsAsync(store, work, attempt, cancellation);
        return results.Where(r => r.Stored is not null).ToDictionary(r => r.Figures.Name, r => r.Stored!, StringComparer.Ordinal);
    }

    private static void ShortenWhereWorthwhile(ModelProto model)
    {
        long before = model.CalculateSize();
        var trial = model.Clone();
        NameShortening.Apply(trial);
        var payload = ModelIndex.Tensors(model).Sum(t => t.Tensor.DataLocation == TensorProto.Types.DataLocation.External ? TensorRef.From(t.Tensor, t.Place).Length : 0);
        if (before - trial.CalculateSize() >= NamesWorthwhile * (before + payload)) NameShortening.Apply(model);
    }

    private static async Task<long> NonzeroAsync(IArtifactStore store, Weight weight, string folder, Dictionary<string, string> etags, CancellationToken cancellation)
    {
        var reference = weight.Reference;
        if (reference.File is not { } file)
        {
            var floats = new float[reference.Elements];
            FloatConversion.ToFloat(TensorRef.InlineBytes(weight.Tensor).Span, reference.DataType, floats);
            return floats.Length - floats.AsSpan().Count(0f);
        }
        var path = ModelWriter.Resolve(folder, file);
        var data = new WeightData(path, etags.GetValueOrDefault(path), reference.Offset, reference.Length, reference.DataType);
        await using var reader = await data.OpenAsync(store, cancellation);
        var chunk = new float[Math.Min(reader.Elements, 1 << 16)];
        long nonzero = 0;
        for (long at = 0; at < reader.Elements; at += chunk.Length)
        {
            var part = chunk.AsMemory(0, (int)Math.Min(chunk.Length, reader.Elements - at));
            await reader.ReadAsync(at, part, cancellation);
            nonzero += part.Length - part.Span.Count(0f);
        }
        return nonzero;
    }
}
