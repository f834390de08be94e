using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json;
using Serverless.Core.Onnx;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Calibration;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="CompressLayer"/>: which task of which attempt.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="Shards">Folder of compressed layers.</param>
/// <param name="Attempt">The attempt.</param>
/// <param name="Index">The task.</param>
public sealed record CompressInput(string Work, string Shards, int Attempt, int Index);

/// <summary>A compressed layer as kept in the store beside its shard.</summary>
/// <param name="Layer">The encoding.</param>
/// <param name="Shard">Store path of the shard.</param>
/// <param name="Seconds">Time it took.</param>
public sealed record StoredLayer(EncodedLayer Layer, string Shard, double Seconds);

/// <summary>
/// Compresses one weight into a shard. The shard's name is a hash of the weight's bytes, its shape and the options:
/// an unchanged layer is found, not compressed again, by a repeated activity and by a later run alike.
/// </summary>
public sealed class CompressLayer : Activity<CompressInput, CompressedLayer>
{
    private const int LongestName = 200;

    /// <inheritdoc/>
    public override async Task<CompressedLayer> RunAsync(CompressInput input, ActivityContext context, CancellationToken cancellation)
    {
        var store = context.Store;
        var task = await store.ReadJsonAsync<LayerTask>(RunNames.Task(input.Work, input.Attempt, input.Index), cancellation);
        var (step, plan) = (task.Step!, task.Plan!);
        using var room = await context.Memory.EnterAsync(plan.WorkingBytes, cancellation);
        var clock = Stopwatch.StartNew();
        await using var weight = await task.Data.OpenAsync(store, cancellation);
        await using var statistics = task.Observation is { } o ? await store.OpenAsync(RunNames.Statistics(input.Work, o), null, cancellation) : null;
        var key = await KeyAsync(weight, task, statistics, cancellation);
        var record = $"{input.Shards}/{key}.json";
        CompressedLayer result;
        try
        {
            var stored = await store.FindAsync(record, cancellation) is null ? null : await store.ReadJsonAsync<StoredLayer>(record, cancellation);
            var reused = stored is not null && await store.FindAsync(stored.Shard, cancellation) is not null;
            stored = reused ? stored! : await CompressAsync(store, weight, task, statistics, $"{input.Shards}/{key}.bin", record, clock, cancellation);
            result = new CompressedLayer(task.Index, task.Name, task.Data.Length, stored.Layer.Bytes, stored.Layer.BitsPerWeight,
                stored.Layer.RelativeError, stored.Seconds, reused, null);
            await store.WriteJsonAsync(RunNames.Result(input.Work, input.Attempt, task.Index), new LayerResult(result, stored), cancellation);
        }
        catch (LayerRefusedException e)
        {
            result = new CompressedLayer(task.Index, task.Name, task.Data.Length, task.Data.Length, DataTypes.Bits(task.Data.DataType), 0, clock.Elapsed.TotalSeconds, false, e.Message);
            await store.WriteJsonAsync(RunNames.Result(input.Work, input.Attempt, task.Index), new LayerResult(result, null), cancellation);
        }
        // Names are as long as the model's author likes; what orchestrations carry is not.
        return result with { Name = Shown(result.Name) };
    }

    private static string Shown(string name) => name.Length <= LongestName ? name : $"{name[..(LongestName / 2)]}…{name[^(LongestName / 2)..]}";

    private static async Task<StoredLayer> CompressAsync(
        IArtifactStore store, WeightReader weight, LayerTask task, ArtifactReader? statistics, string shard, string record, Stopwatch clock, CancellationToken cancellation)
    {
        var technique = Plan.Technique(task.Step!);
        var options = task.Step!.Options.Deserialize(technique.OptionsType, Json.Options)!;
        EncodedLayer? layer = null;
        var work = new LayerWork(weight, task.Plan!.Shape ?? task.Shape, task.Plan)
        {
            Input = statistics is null ? null : await StatisticsFile.ReadAsync(statistics, cancellation), NotObserved = task.NotObserved,
        };
        await store.WriteAsync(shard, async (stream, token) =>
            layer = await technique.CompressAsync(work, options, stream, token), cancellation);
        var stored = new StoredLayer(layer!, shard, clock.Elapsed.TotalSeconds);
        await store.WriteJsonAsync(record, stored, cancellation);
        return stored;
    }

    private static async Task<string> KeyAsync(WeightReader weight, LayerTask task, ArtifactReader? statistics, CancellationToken cancellation)
    {
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        sha.AppendData(JsonSerializer.SerializeToUtf8Bytes(new { Version = 2, task.Data.DataType, task.Shape, Step = new { task.Step!.Step, task.Step.Method, task.Step.Options }, task.Plan, task.NotObserved }, Json.Options));
        await weight.ScanAsync(bytes => sha.AppendData(bytes.Span), cancellation);
        var chunk = new byte[statistics is null ? 0 : Math.Min(1 << 20, statistics.Artifact.Length)];
        for (long at = 0; statistics is not null && at < statistics.Artifact.Length; at += chunk.Length)
        {
            var part = chunk.AsMemory(0, (int)Math.Min(chunk.Length, statistics.Artifact.Length - at));
            await statistics.ReadAsync(at, part, cancellation);
            sha.AppendData(part.Span);
        }
        return Convert.ToHexStringLower(sha.GetHashAndReset().AsSpan(0, 16));
    }
}

/// <summary>A layer's figures and encoding; no encoding when its values could not be compressed.</summary>
public sealed record LayerResult(CompressedLayer Figures, StoredLayer? Stored);
