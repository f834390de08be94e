using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Calibration;

namespace Serverless.Core.Pipeline;

/// <summary>
/// Compressed layers in the store. A shard's name is a hash of the weight's bytes, its shape, the options and the
/// statistics: what was compressed before is found, not compressed again.
/// </summary>
internal static class LayerShards
{
    private const int Version = 6;

    /// <summary>Finds a layer's shard or makes it.</summary>
    /// <param name="context">The store, and what is known of shards.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="shards">Folder of compressed layers.</param>
    /// <param name="task">The layer, with a step and a plan.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="LayerRefusedException">Its values cannot be compressed so.</exception>
    public static async Task<(StoredLayer Stored, bool Reused)> TakeAsync(
        ActivityContext context,
        string work,
        string shards,
        LayerTask task,
        CancellationToken cancellation
    )
    {
        var (store, clock) = (context.Store, Stopwatch.StartNew());
        await using var weight = await task.Data.OpenAsync(store, cancellation);
        await using var statistics = task.Observation is { } o
            ? await StatisticsSet.OpenAsync(store, RunNames.Statistics(task.State!, o), o, cancellation)
            : null;
        var shard = $"{shards}/{await KeyAsync(weight, task, statistics, cancellation)}.bin";
        if (await FindAsync(context, shard, cancellation) is { } found)
            return (found, true);
        var technique = Plan.Technique(task.Step!);
        var options = Plan.Options(task.Step!);
        var layer = new LayerWork(weight, task.Plan!.Shape ?? task.Shape, task.Plan)
        {
            Input = statistics is null ? null : await StatisticsFile.ReadAsync(statistics, cancellation),
            NotObserved = task.NotObserved,
        };
        StoredLayer? stored = null;
        await store.WriteAsync(
            shard,
            async (stream, token) =>
            {
                var encoded = await technique.CompressAsync(layer, options, stream, token);
                stored = new StoredLayer(encoded, shard, clock.Elapsed.TotalSeconds);
                await TrailingRecord.WriteAsync(stream, stored, token);
            },
            cancellation
        );
        return (stored!, false);
    }

    // A shard that is missing or damaged is made anew.
    private static async Task<StoredLayer?> FindAsync(ActivityContext context, string shard, CancellationToken cancellation)
    {
        try
        {
            if (!await context.Layers.HasShardAsync(context.Store, shard, cancellation))
                return null;
            await using var reader = await context.Store.OpenAsync(shard, null, cancellation);
            return await TrailingRecord.ReadAsync<StoredLayer>(reader, cancellation) with { Shard = shard };
        }
        catch (DamagedWorkException)
        {
            return null;
        }
    }

    private static async Task<string> KeyAsync(
        WeightReader weight,
        LayerTask task,
        ArtifactReader? statistics,
        CancellationToken cancellation
    )
    {
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var step = new
        {
            task.Step!.Step,
            task.Step.Method,
            task.Step.Options,
        };
        sha.AppendData(
            JsonSerializer.SerializeToUtf8Bytes(
                new
                {
                    Version,
                    task.Data.DataType,
                    task.Shape,
                    Step = step,
                    task.Plan,
                    task.NotObserved,
                },
                Json.Options
            )
        );
        await weight.ScanAsync(bytes => sha.AppendData(bytes.Span), cancellation);
        if (statistics is not null)
            await statistics.ScanAsync(sha.AppendData, cancellation);
        return Convert.ToHexStringLower(sha.GetHashAndReset().AsSpan(0, 16));
    }
}
