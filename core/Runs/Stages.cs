using Serverless.Core.Recipes;

namespace Serverless.Core.Runs;

/// <summary>What a candidate's orchestration does with one stage of a recipe.</summary>
internal static class Stages
{
    /// <summary>
    /// Plans the chain of layer steps that a state begins with: settings that depend on several layers, or are open, included.
    /// </summary>
    /// <param name="host">The orchestration.</param>
    /// <param name="request">The run, at the state.</param>
    /// <param name="bytes">Size of the original.</param>
    public static async Task<Planned> PlanAsync(IOrchestration host, RunRequest request, long bytes)
    {
        host.SetStatus(RunStatus.Of("Plan", 1, null));
        var planned = await host.CallAsync<Plan, StateInput, Planned>(new StateInput(request));
        if (planned.Surveys)
            planned = await SurveyAsync(host, request, planned);
        if (planned.Calibrates)
            await CalibrateAsync(host, request, planned.Observations, planned);
        return planned.Open ? await AllocateAsync(host, request, planned, bytes) : planned;
    }

    /// <summary>Layer steps whose results the model takes on, before the next step looks at it.</summary>
    /// <returns>Whether they saw samples.</returns>
    public static async Task<bool> ChainAsync(IOrchestration host, RunRequest request, RunStage stage, long bytes)
    {
        var planned = await PlanAsync(host, request, bytes);
        await CompressLayers.RunAsync(
            host,
            new LayersInput(request.State, request.Shards, 0, planned.Tasks, 0, planned.Layers, stage.Placement),
            planned.Bytes
        );
        await host.CallAsync<MergeLayers, MergeLayersInput, LayersMerged>(new MergeLayersInput(request, stage.Steps, planned.Open));
        return planned.Calibrates;
    }

    /// <summary>A step on the model as a whole: looked at, observed where it asks for that, and applied where models may run.</summary>
    /// <returns>Whether it saw samples.</returns>
    public static async Task<bool> ApplyAsync(IOrchestration host, RunRequest request, StepPlacement placement)
    {
        var step = new GraphStepInput(request, false);
        var tried = await host.CallAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(step);
        if (tried.WantsSamples)
        {
            await CalibrateAsync(host, request, tried.Observations, null);
            step = step with { Observed = true };
            tried = await host.CallAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(step);
        }
        if (!tried.Done)
            await GpuCall.RunAsync<ApplyModelStep, GraphStepInput, GraphStepDone>(
                host,
                request.Work,
                $"step-{request.Stage + 1}",
                step,
                placement
            );
        return step.Observed;
    }

    /// <summary>Steps on the coded model that run it.</summary>
    /// <param name="host">The orchestration.</param>
    /// <param name="request">The run, at the state that the chain began with.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="finishing">Steps behind the chain.</param>
    /// <param name="show">Shows the step at work.</param>
    public static async Task FinishAsync(
        IOrchestration host,
        RunRequest request,
        int attempt,
        IReadOnlyList<RecipeStep> finishing,
        Action<string> show
    )
    {
        for (var i = 0; i < finishing.Count; i++)
        {
            if (!finishing[i].RunsCoded)
                continue;
            show(finishing[i].Label);
            await GpuCall.RunAsync<ApplyCodedStep, CodedStepInput, CodedStepDone>(
                host,
                request.Work,
                $"coded-{attempt}-{i}",
                new CodedStepInput(request, attempt, finishing, i),
                finishing[i].Placement
            );
        }
    }

    // Statistics of what the layers get to see: of some samples each, then of all together.
    private static async Task CalibrateAsync(IOrchestration host, RunRequest request, int observations, Planned? planned)
    {
        host.SetStatus(RunStatus.Of("Calibrate", 1, planned));
        var calibration = await host.CallAsync<PlanCalibration, StateInput, CalibrationPlanned>(new StateInput(request));
        await Task.WhenAll(
            Enumerable
                .Range(0, observations == 0 ? 0 : calibration.Shards)
                .Select(shard => host.CallAsync<CalibrateShard, CalibrateInput, ShardCalibrated>(new CalibrateInput(request, shard)))
        );
        await Task.WhenAll(
            Enumerable
                .Range(0, (observations + MergeStatistics.Most - 1) / MergeStatistics.Most)
                .Select(i =>
                    host.CallAsync<MergeStatistics, MergeInput, StatisticsMerged>(new MergeInput(request.State, i * MergeStatistics.Most))
                )
        );
        if (observations > 0)
            await host.CallAsync<ClearWork, ClearInput, Cleared>(new ClearInput(RunPaths.StatisticsParts(request.State)));
    }

    // Options that depend on the weights of several layers.
    private static async Task<Planned> SurveyAsync(IOrchestration host, RunRequest request, Planned planned)
    {
        host.SetStatus(RunStatus.Of("Survey", 1, planned));
        await Task.WhenAll(
            Enumerable
                .Range(0, planned.Layers)
                .Chunk(SurveyWeights.Most)
                .Select(some => host.CallAsync<SurveyWeights, SurveyInput, WeightsSurveyed>(new SurveyInput(request, some[0], some.Length)))
        );
        return await host.CallAsync<SettleOptions, StateInput, Planned>(new StateInput(request) { Planned = planned });
    }

    // What each width of each layer costs, and the first choice among them.
    private static async Task<Planned> AllocateAsync(IOrchestration host, RunRequest request, Planned planned, long bytes)
    {
        host.SetStatus(RunStatus.Of("Measure", 1, planned));
        await Task.WhenAll(
            Enumerable
                .Range(0, planned.Layers)
                .Chunk(MeasureLayers.Most)
                .Select(some =>
                    host.CallAsync<MeasureLayers, MeasureInput, LayersMeasured>(new MeasureInput(request, some[0], some.Length))
                )
        );
        return planned.With(await host.CallAsync<Allocate, AllocateInput, Planned>(new AllocateInput(request, 0, bytes, 0, 1)));
    }
}
