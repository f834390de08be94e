using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Replan"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt that was over its budget.</param>
/// <param name="Bytes">Size of its result.</param>
/// <param name="LargestBytes">Largest size allowed, or null for any.</param>
public sealed record ReplanInput(RunRequest Request, int Attempt, long Bytes, long? LargestBytes)
{
    /// <summary>How many times slower than the original the result is, where integer kernels are to blame; else null.</summary>
    public double? Slower { get; init; }
}

/// <summary>
/// Plans again, gentler: the layers whose error per byte saved is worst get more bits, and where there are no more,
/// stay as they were. Each round moves twice as many layers as the one before.
/// </summary>
public sealed class Replan : Activity<ReplanInput, Planned>
{
    private const int FirstShare = 8;

    /// <summary>Attempts in all, the first plan included.</summary>
    public const int MostAttempts = 14;

    /// <summary>Writes the next attempt's tasks; no layers planned means that there are no options left.</summary>
    public override async Task<Planned> RunAsync(ReplanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var model = await ModelState.GraphAsync(store, request, cancellation);
        var weights = Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var tasks = (await LayerRecords.TasksAsync(store, request.State, input.Attempt, cancellation)).ToList();
        if (input.Slower is { } slower)
            return await WriteAsync(store, input, InFloat(tasks, weights, slower), cancellation);
        var results = (await LayerRecords.ResultsAsync(store, request.State, input.Attempt, tasks, cancellation)).Select(r => r.Figures);
        var candidates = results
            .Where(r => r.Note is null)
            .OrderByDescending(r => r.Error / Math.Max(1, r.BytesBefore - r.BytesAfter))
            .ThenBy(r => r.Index)
            .ToList();
        var share = Math.Max(1, (int)Math.Ceiling(candidates.Count * Math.Pow(2, input.Attempt) / FirstShare));
        var (moved, bytes) = (0, input.Bytes);
        foreach (var r in candidates)
        {
            if (moved == share)
                break;
            var next = Gentler(tasks[r.Index], weights[r.Name]);
            var grown = bytes - r.BytesAfter + (next.Plan?.BytesAfter ?? next.Data.Length);
            if (input.LargestBytes is { } most && grown > most)
                continue;
            (tasks[r.Index], bytes) = (next, grown);
            moved++;
        }
        if (moved == 0 || tasks.All(t => t.Step is null))
            return new Planned(0, tasks.Count, 0, new Recipes.StepPlacement());
        return await WriteAsync(store, input, tasks, cancellation);
    }

    private static async Task<Planned> WriteAsync(
        IArtifactStore store,
        ReplanInput input,
        IReadOnlyList<LayerTask> tasks,
        CancellationToken cancellation
    )
    {
        var ordered = tasks.OrderBy(t => t.Step is null).ThenBy(t => t.Index).Select((t, i) => t with { Index = i }).ToList();
        return LayerTasks.Summary(ordered) with
        {
            Tasks = await LayerRecords.WriteTasksAsync(store, input.Request.State, input.Attempt + 1, ordered, cancellation),
        };
    }

    // The layers that integer kernels compute, in float with their weights in as many bits.
    private static List<LayerTask> InFloat(IReadOnlyList<LayerTask> tasks, IReadOnlyDictionary<string, Weight> weights, double slower)
    {
        return [.. tasks.Select(t => t.Step is null ? t : t with { Plan = InFloat(t, t.Step) ?? t.Plan })];

        LayerPlan? InFloat(LayerTask task, RecipeStep step) =>
            step.Layer.InFloat(weights[task.Name], task.Shape, task.Store, step.Typed, slower);
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
