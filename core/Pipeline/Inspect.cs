using System.Buffers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Onnx.Simplification;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.Scaling;
using Serverless.Core.Techniques.Simplification;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="Inspect"/>.</summary>
/// <param name="Request">The run.</param>
public sealed record InspectInput(RunRequest Request);

/// <summary>What <see cref="Inspect"/> found.</summary>
/// <param name="Bytes">Size of the model, external data included.</param>
/// <param name="Parameters">Weights in it.</param>
/// <param name="Rescales">Whether the recipe asks for channels to be scaled first.</param>
public sealed record Inspected(long Bytes, long Parameters, bool Rescales = false)
{
    /// <summary>Nothing more was done: weights are computed from constants, which <see cref="FoldConstants"/> computes first.</summary>
    public bool Folds { get; init; }
}

/// <summary>
/// Reads the model without its weights, tidies the graph, and keeps it in the store beside the versions of the files
/// that its weights are in. Small inline weights and folded ones go to a file of their own, so that every weight is a
/// byte range of the store from here on.
/// </summary>
public sealed class Inspect : Activity<InspectInput, Inspected>
{
    /// <inheritdoc/>
    public override Task<Inspected> RunAsync(InspectInput input, ActivityContext context, CancellationToken cancellation) =>
        RunAsync(input.Request, context, fold: false, cancellation);

    /// <summary>Inspects a model.</summary>
    /// <param name="request">The run.</param>
    /// <param name="context">Where it runs.</param>
    /// <param name="fold">Whether constant expressions are computed here, which runs parts of the model; else they are asked for.</param>
    /// <param name="cancellation">Cancels the work.</param>
    internal static async Task<Inspected> RunAsync(RunRequest request, ActivityContext context, bool fold, CancellationToken cancellation)
    {
        var store = context.Store;
        var wanted = request.Snapshot is { } s ? await store.ReadJsonAsync<Dictionary<string, string>>(s, cancellation) : [];
        var index = await ModelIndexer.IndexAsync(store, request.Model, cancellation);
        var versions = index.Files.Values.ToDictionary(f => f.Path, f => f.ETag);
        if (request.Data is { } data)
            versions[data] =
                (await store.FindAsync(data, cancellation))?.ETag
                ?? throw new BadInputException($"{data}: the file does not exist; drop it again.");
        foreach (var (path, etag) in versions)
            if (wanted.TryGetValue(path, out var w) && w != etag)
                throw Changed(path);
        await VerifyChecksumsAsync(store, index, cancellation);
        using (var samples = await Evaluate.OpenDataAsync(store, request, index, versions, cancellation))
            samples?.Check(cancellation);
        var recipe = await TakeRecipeAsync(store, request, request.Recipe is { } r ? wanted.GetValueOrDefault(r) : null, cancellation);
        var simplify = recipe.Find<SimplifyOptions>()!;
        if (simplify.InitializerInputs == InitializerInputs.Constant)
            FixInputs(index.Model.Graph);
        var parameters = Weight.Of(index.Model).Sum(w => w.Reference.Elements);
        var edit = new ModelEdit(index.Model);
        var extra = new ExtraWeights($"{request.Work}/weights.bin");
        ConstantMerging.Apply(edit, cancellation);
        IReadOnlyList<FoldedExpression> folded = [];
        if (simplify.Constants)
        {
            WideningCasts.MoveLast(edit.Roots[0]);
            var expressions = ConstantExpressions.Find(edit.Roots[0], cancellation);
            if (expressions.Count > 0 && !fold)
                return new Inspected(index.Bytes, parameters) { Folds = true };
            if (expressions.Count > 0)
                folded = await FoldConstants.FoldAsync(store, index, edit, expressions, $"{request.Work}/folded.bin", cancellation);
            edit = new ModelEdit(index.Model);
            edit.DropDead(cancellation);
        }
        await store.WriteJsonAsync(RunNames.Folded(request.Work), folded, cancellation);
        // Rules of the recipe may treat weights of one kind differently, by their names.
        if (recipe.Layers.Count == 0)
            ConstantMerging.MergeShared(edit);
        IReadOnlyDictionary<string, ChannelDistribution> normalized = new Dictionary<string, ChannelDistribution>();
        if (simplify.BatchNorm)
            normalized = await ConvFolding.ApplyAsync(
                edit,
                (t, token) => ReadAsync(store, index, extra, t, token),
                extra.KeepAsync,
                cancellation
            );
        if (simplify.HardSwish)
            HardSwishFolding.Apply(edit);
        ConstantMerging.Apply(edit, cancellation);
        foreach (var weight in Weight.Of(index.Model))
            if (weight.LeftAlone is null && weight.Reference.File is null)
                await extra.KeepAsync(weight.Tensor, TensorRef.InlineBytes(weight.Tensor), cancellation);
        await extra.WriteAsync(store, cancellation);
        await store.WriteBytesAsync(RunNames.Graph(request.Work), index.Model.ToByteArray(), cancellation);
        await store.WriteJsonAsync(
            RunNames.Normalized(request.Work),
            normalized.Where(n => n.Value.Mean.Concat(n.Value.Deviation).All(double.IsFinite)).ToDictionary(),
            cancellation
        );
        await store.WriteJsonAsync(RunNames.Files(request.Work), versions, cancellation);
        return new Inspected(
            index.Bytes,
            parameters,
            recipe.Find<EqualizationOptions>() is not null || recipe.Find<SmoothingOptions>() is not null
        );
    }

    private static void FixInputs(GraphProto graph)
    {
        var initializers = graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        for (var i = graph.Input.Count - 1; i >= 0; i--)
            if (initializers.Contains(graph.Input[i].Name))
                graph.Input.RemoveAt(i);
    }

    internal static BadInputException Changed(string path) =>
        new($"{path}: it changed while it was being compressed; drop it again when it is whole.");

    /// <summary>The recipe of a run, as it was when the run began.</summary>
    internal static async Task<Recipe> RecipeOf(IArtifactStore store, RunRequest request, CancellationToken cancellation) =>
        request.Recipe is { } path
            ? Read(await store.ReadBytesAsync(RunNames.Recipe(request.Work), RecipeReader.LargestRecipe, cancellation), path)
            : Presets.Recipe(Presets.Default);

    private static async Task<Recipe> TakeRecipeAsync(
        IArtifactStore store,
        RunRequest request,
        string? etag,
        CancellationToken cancellation
    )
    {
        if (request.Recipe is not { } path)
            return Presets.Recipe(Presets.Default);
        var bytes = await store.ReadBytesAsync(path, RecipeReader.LargestRecipe, cancellation, etag);
        // As it is for this machine: every activity, wherever it runs, reads the same.
        var recipe = Read(bytes, path);
        var settled = recipe.Settled();
        var decided = JsonSerializer.Serialize(recipe, Json.Options) != JsonSerializer.Serialize(settled, Json.Options);
        await store.WriteBytesAsync(
            RunNames.Recipe(request.Work),
            decided ? Encoding.UTF8.GetBytes(RecipeWriter.Write(settled)) : bytes,
            cancellation
        );
        return settled;
    }

    private static Recipe Read(byte[] bytes, string path) => RecipeReader.Read(Encoding.UTF8.GetString(bytes), path);

    internal static async Task<ReadOnlyMemory<byte>> ReadAsync(
        IArtifactStore store,
        ModelIndex index,
        ExtraWeights extra,
        TensorProto tensor,
        CancellationToken cancellation
    )
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is not { } file)
            return TensorRef.InlineBytes(tensor);
        if (extra.TryRead(reference) is { } kept)
            return kept;
        await using var reader = await store.OpenAsync(
            ModelWriter.Resolve(index.Folder, file),
            index.Files.GetValueOrDefault(file)?.ETag,
            cancellation
        );
        var bytes = new byte[reference.Length];
        await reader.ReadAsync(reference.Offset, bytes, cancellation);
        return bytes;
    }

    // ONNX external data may carry the SHA-1 of its file: what a user took the trouble to write down is checked.
    private static async Task VerifyChecksumsAsync(IArtifactStore store, ModelIndex index, CancellationToken cancellation)
    {
        var wanted = new Dictionary<string, string>();
        foreach (var (tensor, _) in ModelIndex.Tensors(index.Model))
            if (
                tensor.ExternalData.FirstOrDefault(e => e.Key == "checksum")?.Value is { Length: > 0 } sum
                && TensorRef.From(tensor, tensor.Name).File is { } file
            )
                wanted[file] = sum;
        foreach (var (file, sum) in wanted)
        {
            await using var reader = await store.OpenAsync(StorePath.Combine(index.Folder, file), index.Files[file].ETag, cancellation);
#pragma warning disable CA5350 // The format says SHA-1; it guards against damage, not against an adversary.
            using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
#pragma warning restore CA5350
            await reader.ScanAsync(sha.AppendData, cancellation);
            if (!Convert.ToHexString(sha.GetHashAndReset()).Equals(sum, StringComparison.OrdinalIgnoreCase))
                throw new BadInputException(
                    $"{index.Path}: external data file '{file}' does not match the checksum in the model; copy it again."
                );
        }
    }
}

/// <summary>Weights that are not a byte range of the dropped files: inline ones and changed ones.</summary>
internal sealed class ExtraWeights(string path)
{
    private readonly ArrayBufferWriter<byte> bytes = new();

    /// <summary>Keeps a tensor's bytes and points the tensor at them.</summary>
    public Task KeepAsync(TensorProto tensor, ReadOnlyMemory<byte> data, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        TensorRef.Point(tensor, ModelWriter.InStore(path), bytes.WrittenCount, data.Length);
        bytes.Write(data.Span);
        return Task.CompletedTask;
    }

    public ReadOnlyMemory<byte>? TryRead(TensorRef reference) =>
        reference.File == ModelWriter.InStore(path)
            ? bytes.WrittenMemory.Slice((int)reference.Offset, (int)reference.Length)
            : (ReadOnlyMemory<byte>?)null;

    public Task WriteAsync(IArtifactStore store, CancellationToken cancellation) =>
        store.WriteBytesAsync(path, bytes.WrittenMemory, cancellation);
}
