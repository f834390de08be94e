using Serverless.Core.Model;

namespace Serverless.Core.Runs;

/// <summary>A layer's next setting.</summary>
/// <param name="Position">Position of the layer among the tasks.</param>
/// <param name="Next">The layer at the gentler setting; without a step where it is left as it was.</param>
/// <param name="Bytes">Foreseen size of the model after this move and all before it.</param>
internal sealed record GentlerMove(int Position, LayerTask Next, long Bytes);

/// <summary>
/// The moves of layers up their ladders. The layer with the largest error per byte saved moves first. Errors are those measured at the
/// base; a setting above it is assumed to halve the error for each bit that it adds, and once where it adds none.
/// </summary>
internal static class GentlerMoves
{
    /// <summary>The moves in order, worst first. One layer at least keeps a step.</summary>
    /// <param name="tasks">The tasks of the base.</param>
    /// <param name="results">What became of the layers.</param>
    /// <param name="weights">The weights by name.</param>
    /// <param name="bytes">Size of the base's model.</param>
    /// <param name="largest">Largest size allowed, or null for any: a layer whose next setting exceeds it moves no further.</param>
    public static IEnumerable<GentlerMove> Of(
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyList<CompressedLayer> results,
        IReadOnlyDictionary<string, Weight> weights,
        long bytes,
        long? largest
    )
    {
        var waiting = new PriorityQueue<(LayerTask Task, int Position, double Error, long Bytes), (double, int)>();
        foreach (var r in results)
            Wait((tasks[r.Index], r.Index, r.Error, r.BytesAfter));
        var left = waiting.Count;
        while (waiting.TryDequeue(out var layer, out _))
        {
            var next = Gentler(layer.Task, weights[layer.Task.Name]);
            var after = next.Plan?.ValueBytes ?? next.Data.Length;
            var grown = bytes - layer.Bytes + after;
            if (grown > largest || (next.Step is null && left == 1))
                continue;
            bytes = grown;
            yield return new GentlerMove(layer.Position, next, bytes);
            if (next.Step is null)
                left--;
            else
                Wait((next, layer.Position, layer.Error / Math.Pow(2, Math.Max(1, next.Plan!.Bits - layer.Task.Plan!.Bits)), after));
        }

        void Wait((LayerTask Task, int Position, double Error, long Bytes) layer) =>
            waiting.Enqueue(layer, (-layer.Error / Math.Max(1, layer.Task.Data.Length - layer.Bytes), layer.Position));
    }

    private static LayerTask Gentler(LayerTask task, Weight weight)
    {
        var gentler = task.Step!.Layer.Ladder(task.Step.Typed).Gentler;
        return gentler is null
            ? task with
            {
                Step = null,
                Plan = null,
                SkipReason = "left as it was to meet the loss budget",
            }
            : LayerTasks.WithOptions(task, weight, gentler);
    }
}
