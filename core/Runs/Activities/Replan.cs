using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Replan"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt to plan.</param>
/// <param name="Climb">The search so far.</param>
/// <param name="LargestBytes">Largest size allowed, or null for any.</param>
public sealed record ReplanInput(RunRequest Request, int Attempt, Climb Climb, long? LargestBytes)
{
    /// <summary>How many times slower than the original the result is, where integer kernels are to blame; else null.</summary>
    public double? Slower { get; init; }
}

/// <summary>
/// Plans again, gentler (<see cref="GentlerMoves"/>): a few layers get the next setting of their ladder, and where there is none, stay as
/// they were. Each attempt over the loss is followed by twice as many moves. The first that holds it is followed by attempts with fewer
/// moves: those whose size is nearest the middle between too few and enough.
/// </summary>
public sealed class Replan : Activity<ReplanInput, Planned>
{
    /// <summary>Attempts in all, the first plan included.</summary>
    public const int MostAttempts = 14;

    /// <summary>Writes the next attempt's tasks; no layers planned means that there are no options left.</summary>
    public override async Task<Planned> RunAsync(ReplanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request, climb) = (context.Store, input.Request, input.Climb);
        var model = await ModelState.GraphAsync(store, request, cancellation);
        var weights = Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var tasks = (await LayerRecords.TasksAsync(store, request.State, climb.Base, cancellation)).ToList();
        if (input.Slower is { } slower)
            return await WriteAsync(store, input, InFloat(tasks, weights, slower), cancellation);
        var results = await LayerRecords.ResultsAsync(store, request.State, climb.Base, tasks, cancellation);
        List<CompressedLayer> coded = [.. results.Select(r => r.Figures).Where(r => r.Note is null)];
        var moves = GentlerMoves.Of(tasks, coded, weights, climb.Bytes, input.LargestBytes).Take(climb.Most(coded.Count)).ToList();
        var count = climb.Next([.. moves.Select(m => m.Bytes)]);
        if (count == 0)
            return new Planned(0, tasks.Count, 0, new StepPlacement());
        foreach (var move in moves.Take(count))
            tasks[move.Position] = move.Next;
        return await WriteAsync(store, input, tasks, cancellation) with { Moves = count };
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
            Tasks = await LayerRecords.WriteTasksAsync(store, input.Request.State, input.Attempt, ordered, cancellation),
        };
    }

    // The layers that integer kernels compute, in float with their weights in as many bits.
    private static List<LayerTask> InFloat(IReadOnlyList<LayerTask> tasks, IReadOnlyDictionary<string, Weight> weights, double slower)
    {
        return [.. tasks.Select(t => t.Step is null ? t : t with { Plan = InFloat(t, t.Step) ?? t.Plan })];

        LayerPlan? InFloat(LayerTask task, RecipeStep step) =>
            step.Layer.InFloat(weights[task.Name], task.Shape, task.Store, step.Typed, slower);
    }
}
