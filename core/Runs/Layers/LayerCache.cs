using System.Diagnostics;
using System.IO.Hashing;
using System.Security.Cryptography;
using System.Text.Json;
using Serverless.Core.Forms;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>
/// Compressed layers in the store. A shard's name is a hash of the weight, its shape, the options and the statistics: what was
/// compressed before is found, not compressed again. Where runs of other models share the folder, the weight's bytes are hashed, with
/// SHA-256, so that no model's author can aim at another's layer. A folder of one run names them by file, version and range: they are
/// read once, to be encoded.
/// </summary>
internal static class LayerCache
{
    private const int Version = 10;

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
            ? await StatisticsSet.OpenAsync(store, RunPaths.Statistics(task.State!, o), o, task.ObservedOutput, cancellation)
            : null;
        var shard = $"{shards}/{await KeyAsync(weight, task, statistics, IsShared(work, shards), cancellation)}.bin";
        if (await FindAsync(context, shard, cancellation) is { } found)
            return (found, true);
        var input = statistics is null ? null : await StatisticsFile.ReadAsync(statistics, cancellation);
        var chain = task.Chain.ToList();
        var (masked, error, errorUnmasked, outputError) = (task.Masked, 0.0, 0.0, 0.0);
        WeightReader? between = null,
            unmasked = null;
        var (written, opened) = (new List<string>(), new List<WeightReader>());
        try
        {
            for (var i = 0; i < chain.Count - 1; i++)
            {
                var path = Between(i);
                var made = (await EncodeAsync(chain[i], path, last: false)).Layer;
                (unmasked, errorUnmasked) = IsMasking(chain[i]) && !made.IsCompensated ? (between ?? weight, error) : (null, 0);
                (masked, error, outputError) = (masked || IsMasking(chain[i]), made.RelativeError, made.OutputError ?? 0);
                var data = new WeightData(path, null, made.Codes.Offset, made.Codes.Length, weight.DataType);
                between = await data.OpenAsync(store, cancellation);
                opened.Add(between);
            }
            if (!LeavesOutZeros(task) && !StoresWhole(task))
                return (await EncodeAsync(chain[^1], shard, last: true), false);
            return (await StoreAsync(await EncodeAsync(chain[^1], Between(chain.Count - 1), last: false)), false);
        }
        finally
        {
            foreach (var reader in opened)
                await reader.DisposeAsync();
            foreach (var path in written)
                await store.DeleteAsync(path, CancellationToken.None);
        }

        string Between(int step)
        {
            written.Add($"{work}/dense/{StorePath.Name(shard)}-{step}");
            return written[^1];
        }

        // Without its zeros, or with whole symbols, where that is smaller.
        async Task<StoredLayer> StoreAsync(StoredLayer dense)
        {
            await using var reader = await store.OpenAsync(dense.Shard, null, cancellation);
            var nodes = chain[^1].Plan.NodeBytes;
            return await WriteAsync(
                shard,
                (stream, token) =>
                    StoresWhole(task)
                        ? WholeSymbolStorage.WriteAsync(reader, dense.Layer, stream, token)
                        : SparseStorage.WriteAsync(
                            reader,
                            dense.Layer,
                            nodes,
                            task.Store,
                            task.StoredOpset!.Value,
                            task.IsEntropyCoded,
                            stream,
                            token
                        ),
                last: true
            );
        }

        async Task<StoredLayer> EncodeAsync(PlannedStep step, string path, bool last)
        {
            var layer = new LayerWork(between ?? weight, step.Plan.Shape ?? task.Shape, step.Plan)
            {
                Input = input,
                NotObserved = task.NotObserved,
                Masked = masked,
                Unmasked = unmasked,
            };
            return await WriteAsync(
                path,
                async (stream, token) =>
                {
                    var encoded = await step.Step.Layer.CompressAsync(layer, step.Step.Typed, stream, token);
                    return encoded with
                    {
                        RelativeError = Together(encoded.OfUnmasked ? errorUnmasked : error, encoded.RelativeError),
                        OutputError = encoded.OutputError + outputError,
                    };
                },
                last
            );
        }

        async Task<StoredLayer> WriteAsync(string path, Func<Stream, CancellationToken, Task<EncodedLayer>> write, bool last)
        {
            StoredLayer? stored = null;
            await store.WriteAsync(
                path,
                async (stream, token) =>
                {
                    stored = new StoredLayer(await write(stream, token), path, clock.Elapsed.TotalSeconds);
                    if (last)
                        await TrailingRecord.WriteAsync(stream, stored, token);
                },
                cancellation
            );
            return stored!;
        }
    }

    // Weights that one step changed, the next leaves: squares of their errors add up, the second's relative to the weights that are left.
    internal static double Together(double first, double second) =>
        Math.Sqrt(first * first + second * second * Math.Max(0, 1 - first * first));

    /// <summary>Whether a layer is pruned and what its chain makes is stored in the file.</summary>
    internal static bool LeavesOutZeros(LayerTask task) => task.StoredOpset is not null && (task.Masked || task.Chain.Any(IsMasking));

    // Codes that are to be coded at their entropy, of a width that does not divide a byte; zeros are symbols among them.
    internal static bool StoresWhole(LayerTask task) =>
        task is { IsEntropyCoded: true, Plan: { Form: FormName.Folded, Bits: 3 or 5 or 6 or 7 } };

    private static bool IsMasking(PlannedStep step) => step.Step.Technique.Leaves(ModelTraits.None).HasFlag(ModelTraits.Masked);

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

    // A run's own shards lie in its folder, work/RUN, as the states of its stages do.
    private static bool IsShared(string work, string shards) =>
        StorePath.Parent(shards) is var run && (!run.Contains('/') || work != run && !work.StartsWith(run + "/", StringComparison.Ordinal));

    private static async Task<string> KeyAsync(
        WeightReader weight,
        LayerTask task,
        ArtifactReader? statistics,
        bool shared,
        CancellationToken cancellation
    )
    {
        var steps = task.Chain.Select(p => new
        {
            p.Step.Step,
            p.Step.Method,
            p.Step.Options,
            p.Plan,
        });
        var facts = new
        {
            Version,
            task.Data.DataType,
            task.Shape,
            Steps = steps,
            task.Masked,
            Stored = LeavesOutZeros(task) || StoresWhole(task)
                ? new
                {
                    task.StoredOpset,
                    task.Store,
                    task.IsEntropyCoded,
                }
                : null,
            task.NotObserved,
            Data = shared ? null : task.Data,
        };
        var json = JsonSerializer.SerializeToUtf8Bytes(facts, Json.Options);
        if (!shared)
        {
            var hash = new XxHash128();
            hash.Append(json);
            if (statistics is not null)
                await statistics.ScanAsync(hash.Append, cancellation);
            return Convert.ToHexStringLower(hash.GetCurrentHash());
        }
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        sha.AppendData(json);
        await weight.ScanAsync(bytes => sha.AppendData(bytes.Span), cancellation);
        if (statistics is not null)
            await statistics.ScanAsync(sha.AppendData, cancellation);
        return Convert.ToHexStringLower(sha.GetHashAndReset().AsSpan(0, 16));
    }
}
