using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

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

    /// <summary>Steps behind the chain, on coded layers.</summary>
    public IReadOnlyList<RecipeStep> Finishing { get; init; } = [];

    /// <summary>Whether samples are to be chosen, for whatever runs the model.</summary>
    public bool Calibrates { get; init; }

    /// <summary>Whether integer kernels compute layers that could stay float.</summary>
    public bool Integers { get; init; }

    /// <summary>Whether options of steps depend on the weights of several layers.</summary>
    public bool Surveys { get; init; }

    /// <summary>Whether settings of layers are to be chosen.</summary>
    public bool Open { get; init; }

    /// <summary>This plan with settings of layers chosen: what steps need and what follows the chain stay.</summary>
    /// <param name="chosen">The plan with the settings.</param>
    public Planned With(Planned chosen) =>
        chosen with
        {
            Observations = Observations,
            Finishing = Finishing,
            Calibrates = Calibrates,
            Integers = Integers,
        };

    /// <summary>Moves of layers to gentler settings since the base of the search (<see cref="Climb"/>).</summary>
    public int Moves { get; init; }
}

/// <summary>Decides, weight by weight, which step applies and in which storage form, and why not where none does.</summary>
public sealed class Plan : Activity<StateInput, Planned>
{
    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(StateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var ((_, model, _), etags, facts) = await ModelState.ReadAsync(store, request, cancellation);
        var weights = Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var planned = LayerTasks
            .Of(model, recipe, request.Stage, StorePath.Parent(request.Model), facts)
            .Select(t => t with { Data = t.Data with { ETag = etags.GetValueOrDefault(t.Data.Path) } })
            .ToList();
        var finishing = StepSequence.IsLast(recipe.Steps, request.Stage) ? FinishingSteps.Of(recipe, planned) : [];
        var needs = finishing.Select(s => Needs(s, model, planned, weights)).ToList();
        var factors = weights.Values.Where(w => facts.Origins.GetValueOrDefault(w.Name)?.Rank is not null);
        var (tasks, observations) = LayerObservations.Of(planned, needs, weights, factors, request.State);
        var open = tasks.Any(t => t.Choices.Count > 0);
        var runs = finishing.Any(s => s.RunsCoded);
        var calibrates = observations.Count > 0 || open || runs;
        if (calibrates)
            await store.WriteJsonAsync(
                RunPaths.Calibration(request.State),
                new CalibrationPlan(observations, Samples(tasks, open, needs), 0, 0, ""),
                cancellation
            );
        var hash = await LayerRecords.WriteTasksAsync(store, request.State, 0, tasks, cancellation);
        var integers = tasks.Any(t => t.Step is { } s && s.Layer.InFloat(weights[t.Name], t.Shape, t.Store, s.Typed, 1) is not null);
        return LayerTasks.Summary(tasks) with
        {
            Tasks = hash,
            Observations = observations.Count,
            Open = open,
            Finishing = finishing,
            Calibrates = calibrates,
            Integers = integers,
            Surveys = tasks.Any(t => t.Chain.Any(p => p.Step.Layer.Units(p.Step.Typed) != UnitKind.Weight)),
        };
    }

    private static GraphNeeds Needs(
        RecipeStep step,
        Model.Schema.ModelProto model,
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyDictionary<string, Weight> weights
    )
    {
        var layers = tasks.Where(t => t.Step is not null).Select(t => new PlannedLayer(weights[t.Name], t.Plan!, t.Step!.Setting));
        return ((GraphTechnique)step.Technique).Needs(model, [.. layers], step.Typed);
    }

    // As many as whoever wants most: a step, or the comparison of settings.
    private static int Samples(IEnumerable<LayerTask> tasks, bool open, IEnumerable<GraphNeeds> needs) =>
        tasks
            .SelectMany(t => t.Chain)
            .Select(p => p.Step.Layer.Samples(p.Step.Typed))
            .Concat(needs.Select(n => n.Samples))
            .Append(open ? ModelTrial.MostRuns : 0)
            .Max();
}
