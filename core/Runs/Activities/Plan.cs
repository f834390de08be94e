using System.Text.Json;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.BiasCorrection;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Plan"/>.</summary>
/// <param name="Request">The run.</param>
public sealed record StateInput(RunRequest Request)
{
    /// <summary>The plan so far, where it is changed; else null.</summary>
    public Planned? Planned { get; init; }
}

/// <summary>What was planned.</summary>
/// <param name="Layers">Weights that will be compressed: the first of the plan.</param>
/// <param name="All">All weights of the plan.</param>
/// <param name="Bytes">Bytes of the layers that will be compressed.</param>
/// <param name="Placement">Where they are compressed.</param>
public sealed record Planned(int Layers, int All, long Bytes, StepPlacement Placement)
{
    /// <summary>Hash of the tasks.</summary>
    public string Tasks { get; init; } = "";

    /// <summary>Inputs of layers that techniques want to know about.</summary>
    public int Observations { get; init; }

    /// <summary>Whether biases are to be corrected.</summary>
    public bool CorrectsBias { get; init; }

    /// <summary>Whether integer kernels compute layers that could stay float.</summary>
    public bool Integers { get; init; }

    /// <summary>Whether options of steps depend on the weights of all layers together.</summary>
    public bool Surveys { get; init; }

    /// <summary>Whether widths of layers are to be chosen.</summary>
    public bool Mixed { get; init; }
}

/// <summary>Decides, weight by weight, which step applies and in which storage form, and why not where none does.</summary>
public sealed class Plan : Activity<StateInput, Planned>
{
    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(StateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var model = await ModelState.GraphAsync(store, request, cancellation);
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
        var (tasks, observations) = Observations(
            LayerTasks.Of(model, recipe, request.Stage, StorePath.Parent(request.Model)),
            Weight.Of(model),
            request.State
        );
        var mixed = tasks.Any(t => t.Choices.Count > 0);
        var corrects = recipe.Find<BiasCorrectionOptions>()?.Apply ?? tasks.Any(t => t.Plan?.Form == StorageForm.Qdq);
        if (observations.Count > 0 || mixed || corrects)
            await store.WriteJsonAsync(
                RunPaths.Calibration(request.State),
                new CalibrationPlan(
                    observations,
                    Samples(tasks, mixed, corrects ? recipe.Find<BiasCorrectionOptions>() ?? new BiasCorrectionOptions() : null),
                    0,
                    0,
                    ""
                ),
                cancellation
            );
        var hash = await LayerRecords.WriteTasksAsync(
            store,
            request.State,
            0,
            [.. tasks.Select(t => t with { Data = t.Data with { ETag = etags.GetValueOrDefault(t.Data.Path) } })],
            cancellation
        );
        var weights = Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var integers = tasks.Any(t => t.Step is { } s && s.Layer.InFloat(weights[t.Name], t.Shape, s.Typed, "") is not null);
        return LayerTasks.Summary(tasks) with
        {
            Tasks = hash,
            Observations = observations.Count,
            Mixed = mixed,
            CorrectsBias = corrects,
            Integers = integers,
            Surveys = tasks.Any(t => t.Chain.Any(p => p.Step.Layer.Surveys(p.Step.Typed))),
        };
    }

    // Layers that share an input share an observation of it.
    private static (List<LayerTask> Tasks, List<Observation> Observations) Observations(
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyList<Weight> weights,
        string state
    )
    {
        var byName = weights.ToDictionary(w => w.Name, StringComparer.Ordinal);
        var found = new Dictionary<string, Observation>(StringComparer.Ordinal);
        var planned = new List<LayerTask>();
        foreach (var task in tasks)
        {
            foreach (var view in task.Step is { } s ? s.Layer.Watches(byName[task.Name], s.Typed) : [])
                Observe([view], StatisticKinds.Range | StatisticKinds.Histogram);
            var wanted = task.Chain.Aggregate(StatisticKinds.None, (all, p) => all | p.Step.Layer.Needs(p.Step.Typed));
            if (wanted == StatisticKinds.None)
            {
                planned.Add(task);
                continue;
            }
            var (views, why) = InputView.Of(byName[task.Name], task.Shape);
            if (why is not null)
            {
                planned.Add(task with { NotObserved = why });
                continue;
            }
            planned.Add(task with { Observation = Observe(views, wanted), State = state });
        }
        return (planned, [.. found.Values.OrderBy(o => o.Index)]);

        int Observe(IReadOnlyList<InputView> views, StatisticKinds wanted)
        {
            var key = JsonSerializer.Serialize(views, Json.Options);
            if (!found.TryGetValue(key, out var observation))
                observation = new Observation(found.Count, views, StatisticKinds.None);
            found[key] = observation with { Wanted = observation.Wanted | wanted };
            return observation.Index;
        }
    }

    // As many as whoever wants most: a technique, the comparison of widths, or the correction of biases.
    private static int Samples(IEnumerable<LayerTask> tasks, bool mixed, BiasCorrectionOptions? corrects) =>
        tasks
            .SelectMany(t => t.Chain)
            .Select(p => p.Step.Layer.Samples(p.Step.Typed))
            .Append(mixed ? ModelTrial.MostRuns : 0)
            .Append(corrects?.Samples ?? 0)
            .Max();
}
