using System.Diagnostics;
using Serverless.Core.Onnx;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="CompressLayer"/>: which task of which attempt.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="Shards">Folder of compressed layers.</param>
/// <param name="Attempt">The attempt.</param>
/// <param name="Index">The task.</param>
public sealed record CompressInput(string Work, string Shards, int Attempt, int Index) : IPlaceable
{
    IReadOnlyList<string> IPlaceable.Folders => [Work, Shards];
}

/// <summary>A compressed layer as kept in the store beside its shard.</summary>
/// <param name="Layer">The encoding.</param>
/// <param name="Shard">Store path of the shard.</param>
/// <param name="Seconds">Time it took.</param>
public sealed record StoredLayer(EncodedLayer Layer, string Shard, double Seconds);

/// <summary>
/// Compresses one weight into a shard (<see cref="LayerShards"/>); an unchanged layer is found, not compressed again, by a
/// repeated activity and by a later run alike.
/// </summary>
public sealed class CompressLayer : Activity<CompressInput, CompressedLayer>
{
    private const int LongestName = 200;

    /// <inheritdoc/>
    public override async Task<CompressedLayer> RunAsync(CompressInput input, ActivityContext context, CancellationToken cancellation)
    {
        var store = context.Store;
        var task = await store.ReadJsonAsync<LayerTask>(RunNames.Task(input.Work, input.Attempt, input.Index), cancellation);
        using var room = await context.Memory.EnterAsync(task.Plan!.WorkingBytes, cancellation);
        var clock = Stopwatch.StartNew();
        CompressedLayer result;
        try
        {
            var (stored, reused) = await LayerShards.TakeAsync(store, input.Work, input.Shards, task, cancellation);
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
}

/// <summary>A layer's figures and encoding; no encoding when its values could not be compressed.</summary>
public sealed record LayerResult(CompressedLayer Figures, StoredLayer? Stored);
