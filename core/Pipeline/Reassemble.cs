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
        var folder = StorePath.Parent(request.Model);
        long parameters = 0, nonzero = 0;
        var activation = results.Values.Select(r => r.Layer.Activation).FirstOrDefault(a => a is not null);
        var scales = activation is null ? new Dictionary<string, CodeScale>() : await ActivationScales.ReadAsync(store, request.Work, activation, cancellation);
        var integers = new QdqGraph(edit, v => scales.TryGetValue(v, out var s) ? s : null, (tensor, token) => BytesAsync(store, tensor, folder, etags, token));
        var dynamic = new DynamicForm(edit);
        foreach (var weight in Weight.Of(model))
        {
            parameters += weight.Reference.Elements;
            if (results.TryGetValue(weight.Name, out var stored))
            {
                nonzero += stored.Layer.Nonzero;
                if (stored.Layer.Form == StorageForm.Qdq) integers.Add(weight, stored.Layer, stored.Shard, await ScalesAsync(store, stored, cancellation));
                else if (stored.Layer.Form == StorageForm.Dynamic) dynamic.Apply(weight, stored.Layer, stored.Shard);
                else Forms.Apply(edit, weight, stored.Layer, stored.Shard);
            }
            else nonzero += await NonzeroAsync(store, weight, folder, etags, cancellation);
        }
        dynamic.Finish();
        await integers.ApplyAsync(cancellation);
        if (recipe.Simplify.Names == NameStyle.Short) ShortenWhereWorthwhile(model);
        var bytes = await ModelWriter.WriteAsync(store, model, folder, etags, RunNames.Assembled(request.Work, input.Attempt), ModelWriter.ProtobufLimit, cancellation);
        return new Reassembled(bytes, parameters, nonzero);
    }

    private static async Task<float[]> ScalesAsync(IArtifactStore store, StoredLayer stored, CancellationToken cancellation)
    {
        await using var reader = await store.OpenAsync(stored.Shard, null, cancellation);
        var scales = new float[stored.Layer.Scales.Length / 4];
        var bytes = new byte[stored.Layer.Scales.Length];
        await reader.ReadAsync(stored.Layer.Scales.Offset, bytes, cancellation);
        Buffer.BlockCopy(bytes, 0, scales, 0, bytes.Length);
        return scales;
    }

    private static async Task<ReadOnlyMemory<byte>> BytesAsync(IArtifactStore store, TensorProto tensor, string folder, Dictionary<string, string> etags, CancellationToken cancellation)
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is not { } file) return TensorRef.InlineBytes(tensor);
        var path = ModelWriter.Resolve(folder, file);
        await using var reader = await store.OpenAsync(path, etags.GetValueOrDefault(path), cancellation);
        var bytes = new byte[reference.Length];
        await reader.ReadAsync(reference.Offset, bytes, cancellation);
        return bytes;
    }

    /// <summary>The layers of an attempt that were compressed, by weight.</summary>
    private static async Task<Dictionary<string, StoredLayer>> LayersAsync(IArtifactStore store, string work, int attempt, CancellationToken cancellation)
    {
        var results = await LayerRecords.ResultsAsync(store, work, attempt, cancellation);
        return results.Where(r => r.Stored is not null).ToDictionary(r => r.Figures.Name, r => r.Stored!, StringComparer.Ordinal);
    }

    /// <summary>Shortens the names inside a graph where that saves a percent or more.</summary>
    internal static void ShortenWhereWorthwhile(ModelProto model)
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
