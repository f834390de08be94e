using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Inspect"/>.</summary>
/// <param name="Request">The run.</param>
public sealed record InspectInput(RunRequest Request);

/// <summary>What <see cref="Inspect"/> found.</summary>
/// <param name="Bytes">Size of the model, external data included.</param>
/// <param name="Parameters">Weights in it.</param>
/// <param name="Stages">Stages of the recipe in front of the attempts.</param>
/// <param name="Budget">The budget of the recipe, for the orchestration to decide by.</param>
public sealed record Inspected(long Bytes, long Parameters, IReadOnlyList<RunStage> Stages, Budget Budget)
{
    /// <summary>Multiply-accumulates with stored weights of a run of one sample.</summary>
    public long MultiplyAccumulates { get; init; }

    /// <summary>Bytes a second of a plain copy within the store; null for models below 256 MB.</summary>
    public double? CopyBytesPerSecond { get; init; }
}

/// <summary>
/// Reads the model without its weights and keeps it in the store as the first state of the run, beside the versions of the files
/// that its weights are in.
/// </summary>
public sealed class Inspect : Activity<InspectInput, Inspected>
{
    /// <inheritdoc/>
    public override async Task<Inspected> RunAsync(InspectInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
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
        RunCost cost;
        using (var samples = await Evaluate.OpenDataAsync(store, request, index, versions, cancellation))
        {
            samples?.Check(cancellation);
            cost = RunCost.Of(index, samples, cancellation);
        }
        await store.WriteJsonAsync(RunPaths.RunCost(request.Work), cost, cancellation);
        var recipe = await TakeRecipeAsync(store, request, request.Recipe is { } r ? wanted.GetValueOrDefault(r) : null, cancellation);
        if (!request.Evaluates && recipe.Budget is { MaxAccuracyLoss: not null } or { MaxLatencyRatio: not null })
            throw new BadInputException(
                $"{request.Recipe}: {(recipe.Budget.MaxAccuracyLoss is null ? "maxLatencyRatio" : "maxAccuracyLoss")} is judged by "
                    + "comparing the models; leave --no-evaluate or the budget out."
            );
        await store.WriteJsonAsync(RunPaths.Files(request.Work), versions, cancellation);
        await store.WriteJsonAsync(RunPaths.ModelFiles(request.Work), index.Files, cancellation);
        await new ModelState(index, versions, new StateFacts([], [], [])).WriteAsync(store, request, cancellation);
        return new Inspected(
            index.Bytes,
            Weight.Of(index.Model).Sum(w => w.Reference.Elements),
            StepSequence.Stages(recipe.Steps),
            new Budget(recipe.Budget?.MaxAccuracyLoss, recipe.Budget?.MaxSizeRatio, recipe.Retrain.Wait)
            {
                MaxMacRatio = recipe.Budget?.MaxMacRatio,
                MaxLatencyRatio = recipe.Budget?.MaxLatencyRatio,
            }
        )
        {
            MultiplyAccumulates = cost.MultiplyAccumulates,
            CopyBytesPerSecond = await PlainCopy.MeasureAsync(store, index, request.Work, cancellation),
        };
    }

    internal static BadInputException Changed(string path) =>
        new($"{path}: it changed while it was being compressed; drop it again when it is whole.");

    /// <summary>The recipe of a run, as it was when the run began.</summary>
    internal static async Task<Recipe> RecipeOf(IArtifactStore store, RunRequest request, CancellationToken cancellation) =>
        request.Recipe is { } path
            ? Read(await store.ReadBytesAsync(RunPaths.Recipe(request.Work), RecipeReader.LargestRecipe, cancellation), path)
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
            RunPaths.Recipe(request.Work),
            decided ? Encoding.UTF8.GetBytes(RecipeWriter.Write(settled)) : bytes,
            cancellation
        );
        return settled;
    }

    private static Recipe Read(byte[] bytes, string path) => RecipeReader.Read(Encoding.UTF8.GetString(bytes), path);

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
