using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="ApplyGraphStep"/> and <see cref="ApplyModelStep"/>.</summary>
/// <param name="Request">The run, at the state that the step changes.</param>
/// <param name="Observed">Whether the values that the step wants to know of were observed, and its samples chosen.</param>
public sealed record GraphStepInput(RunRequest Request, bool Observed) : IPlaceable
{
    IReadOnlyList<string> IPlaceable.Folders => [Request.Work, Request.Shards];
}

/// <summary>How far a graph step is.</summary>
/// <param name="Done">Whether it was applied; else it has to be called again: observed, where it asks for that, and where models may
/// run.</param>
/// <param name="Observations">Values that it wants to have observed first.</param>
public sealed record GraphStepDone(bool Done, int Observations)
{
    /// <summary>Whether samples are to be chosen first, to run the model on.</summary>
    public bool Tries { get; init; }

    /// <summary>Whether it asks for samples, to observe values on or to run the model on.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public bool WantsSamples => Tries || Observations > 0;
}

/// <summary>Applies a step of the recipe to the model as a whole: reads a state of it and writes the next.</summary>
public sealed class ApplyGraphStep : Activity<GraphStepInput, GraphStepDone>
{
    /// <inheritdoc/>
    public override Task<GraphStepDone> RunAsync(GraphStepInput input, ActivityContext context, CancellationToken cancellation) =>
        RunAsync(input, context, mayRunModel: false, cancellation);

    internal static async Task<GraphStepDone> RunAsync(
        GraphStepInput input,
        ActivityContext context,
        bool mayRunModel,
        CancellationToken cancellation
    )
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var step = recipe.Steps[request.Stage];
        var (technique, options) = ((GraphTechnique)step.Technique, step.Typed);
        var state = await ModelState.ReadAsync(store, request, cancellation);
        var needs = technique.Needs(state.Index.Model, [], options);
        if ((needs.Views.Count > 0 || needs.Tries) && !input.Observed)
        {
            var observations = needs.Views.Select((v, i) => new Observation(i, [v], needs.Wanted)).ToList();
            var calibration = new CalibrationPlan(observations, needs.Samples, 0, 0, "");
            await store.WriteJsonAsync(RunPaths.Calibration(request.State), calibration, cancellation);
            return new GraphStepDone(false, observations.Count) { Tries = needs.Tries };
        }
        var next = request with { Stage = request.Stage + 1 };
        await using var observed = new ObservedStatistics(store, request.State);
        using var trials = needs.Tries && mayRunModel ? await StepTrials.OpenAsync(store, request, cancellation) : null;
        var work = new GraphWork(store, state.Index, state.ETags, next.State)
        {
            HasRules = recipe.Layers.Count > 0,
            WhySkipped = weight => LayerTasks.WhySkipped(recipe, weight),
            MayRunModel = mayRunModel,
            Normalized = state.Facts.Normalized,
            Notes = state.Facts.Notes,
            ObservedAsync = observed.ReadAsync,
            Trials = trials?.Trials,
            MostLoss = recipe.Budget?.MaxAccuracyLoss,
            Limits = needs.Tries ? await LimitsAsync(store, request, recipe, cancellation) : new ModelLimits(),
        };
        try
        {
            await technique.ApplyAsync(work, options, cancellation);
        }
        catch (ModelRunNeededException)
        {
            return new GraphStepDone(false, 0);
        }
        if (trials is not null)
            await trials.KeepTimesAsync(cancellation);
        await work.FinishAsync(cancellation);
        LayerOrigin.Note(state.Facts.Origins, work, step.Label);
        state.Facts.Warnings.AddRange(work.Warnings);
        await state.WriteAsync(store, next, cancellation);
        return new GraphStepDone(true, 0);
    }

    // Steps that code the layers have their own way to a size.
    private static async Task<ModelLimits> LimitsAsync(
        IArtifactStore store,
        RunRequest request,
        Recipe recipe,
        CancellationToken cancellation
    )
    {
        var cost = await RunCost.ReadAsync(store, request.Work, cancellation);
        var codes = recipe.Steps.Skip(request.Stage + 1).Any(s => s.Technique is LayerTechnique);
        return new ModelLimits
        {
            MacRatio = recipe.Budget?.MaxMacRatio,
            SizeRatio = codes ? null : recipe.Budget?.MaxSizeRatio,
            LatencyRatio = recipe.Budget?.MaxLatencyRatio,
            MultiplyAccumulates = cost.MultiplyAccumulates,
            CountAsOf = cost.Of,
            ShapesAsOf = cost.ShapesOf,
        };
    }
}

/// <summary>Applies a graph step that runs native code on the model.</summary>
public sealed class ApplyModelStep : Activity<GraphStepInput, GraphStepDone>, IRunsModels
{
    /// <inheritdoc/>
    public override Task<GraphStepDone> RunAsync(GraphStepInput input, ActivityContext context, CancellationToken cancellation) =>
        ApplyGraphStep.RunAsync(input, context, mayRunModel: true, cancellation);
}
