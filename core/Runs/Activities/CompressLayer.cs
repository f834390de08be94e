using System.Diagnostics;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="CompressLayer"/>: which task of which attempt.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="Shards">Folder of compressed layers.</param>
/// <param name="Attempt">The attempt.</param>
/// <param name="Tasks">Hash of its tasks.</param>
/// <param name="Index">The task.</param>
public sealed record CompressInput(string Work, string Shards, int Attempt, string Tasks, int Index) : IPlaceable
{
    IReadOnlyList<string> IPlaceable.Folders => [Work, Shards];
}

/// <summary>A compressed layer as kept in the store behind its shard.</summary>
/// <param name="Layer">The encoding.</param>
/// <param name="Shard">Store path of the shard.</param>
/// <param name="Seconds">Time it took.</param>
public sealed record StoredLayer(EncodedLayer Layer, string Shard, double Seconds);

/// <summary>
/// Compresses one weight into a shard (<see cref="LayerCache"/>); an unchanged layer is found, not compressed again, by a
/// repeated activity and by a later run alike.
/// </summary>
public sealed class CompressLayer : Activity<CompressInput, LayerResult>
{
    private const int LongestName = 200;

    /// <inheritdoc/>
    public override async Task<LayerResult> RunAsync(CompressInput input, ActivityContext context, CancellationToken cancellation)
    {
        var task = await context.Layers.TaskAsync(context.Store, input, cancellation);
        var storing = LayerCache.LeavesOutZeros(task) ? SparseStorage.WorkingBytes(task.Shape.Elements) : 0;
        storing = LayerCache.StoresWhole(task) ? WholeSymbolStorage.WorkingBytes(task.Shape.Elements) : storing;
        using var room = await context.Memory.EnterAsync(
            Math.Max(task.Plan!.WorkingBytes, storing) + Math.Min(WeightReader.Whole, task.Data.Length),
            cancellation
        );
        var clock = Stopwatch.StartNew();
        // Names are as long as the model's author likes; what orchestrations carry is not.
        var (name, bytes) = (Shown(task.Name), task.Data.Length);
        try
        {
            var (stored, reused) = await LayerCache.TakeAsync(context, input.Work, input.Shards, task, cancellation);
            var layer = stored.Layer;
            return new LayerResult(
                new CompressedLayer(
                    task.Index,
                    name,
                    bytes,
                    layer.Bytes,
                    layer.Grid.BitsPerWeight,
                    layer.RelativeError,
                    stored.Seconds,
                    reused,
                    null
                ),
                stored
            );
        }
        catch (LayerRefusedException e)
        {
            return new LayerResult(
                new CompressedLayer(
                    task.Index,
                    name,
                    bytes,
                    bytes,
                    DataTypes.Bits(task.Data.DataType),
                    0,
                    clock.Elapsed.TotalSeconds,
                    false,
                    e.Message
                ),
                null
            );
        }
    }

    private static string Shown(string name) =>
        name.Length <= LongestName ? name : $"{name[..(LongestName / 2)]}…{name[^(LongestName / 2)..]}";
}

/// <summary>A layer's figures and encoding; no encoding when its values could not be compressed.</summary>
public sealed record LayerResult(CompressedLayer Figures, StoredLayer? Stored);
