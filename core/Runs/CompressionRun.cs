using System.Text.Json;
using Serverless.Core.Events;
using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>
/// The flow: Inspect → Plan → [Calibrate] → CompressLayer × N → Reassemble → Evaluate → Publish, and back to a
/// gentler plan while the loss is over the budget. When that is not enough, retraining is requested, and where the recipe says
/// so waited for. Deterministic: hosts may replay it.
/// </summary>
public sealed class CompressionRun : Orchestration<RunRequest, RunResult>
{
    /// <summary>The event that brings retrained weights: a <see cref="RetrainedModel"/>.</summary>
    public const string RetrainedEvent = "retrained";

    /// <summary>How often retrained weights are waited for.</summary>
    public const int MostRetrainings = 3;
    private const int MostChoices = 5,
        MostRepeats = 5;
    private const double TighterThan = 0.7,
        UnusedLoss = 0.5,
        LargestStep = 4;
    private const int Slack = 32;

    // Less is within what a machine does differently from one day to the next.
    private const double SlowerThan = 1.02;

    /// <inheritdoc/>
    public override async Task<RunResult> RunAsync(IOrchestration host, RunRequest request)
    {
        var started = host.UtcNow;
        var about = new RunEvent(RunEvent.Started, host.Id, request.Name, request.Model, started);
        try
        {
            await TellAsync(host, about);
            var trial = await TrialAsync(host, request);
            for (var round = 1; trial.Budget.OverLoss(trial.Best); round++)
            {
                var waits = trial.Budget.RetrainHours > 0 && round <= MostRetrainings;
                await TellAsync(host, Request(about, trial, round, waits) with { Time = host.UtcNow });
                if (!waits)
                    break;
                host.Log($"The loss budget is not met; waiting up to {trial.Budget.RetrainHours:0.##} hours for retrained weights.");
                var json = await host.WaitForEventAsync(RetrainedEvent, TimeSpan.FromHours(trial.Budget.RetrainHours));
                if (json is null)
                    break;
                if (RetrainedModel.Read(json) is not { } model)
                {
                    host.Log($"The event '{RetrainedEvent}' names no model; send it again as {{\"model\": \"CONTAINER/NAME.onnx\"}}.");
                    continue;
                }
                trial = await TrialAsync(host, request with { Model = model, Work = $"{request.Work}/retrained-{round}", Snapshot = null });
            }
            var result = await PublishAsync(host, trial, started);
            await TellAsync(
                host,
                about with
                {
                    Type = RunEvent.Succeeded,
                    Time = host.UtcNow,
                    Status = result.Status,
                    Output = request.Output,
                    BytesBefore = result.BytesBefore,
                    BytesAfter = result.BytesAfter,
                    Loss = result.Loss,
                }
            );
            return result;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            await TellAsync(host, about with { Type = RunEvent.Failed, Time = host.UtcNow, Status = "failed", Error = e.Message });
            throw;
        }
    }

    // What was found damaged is made again, all of it but the compressed layers, which are found by their hash.
    private static async Task<RunResult> PublishAsync(IOrchestration host, Trial trial, DateTime started)
    {
        for (var repeats = 0; ; repeats++)
        {
            var (best, bytes) = (trial.Best, trial.Inspected.Bytes);
            var status = trial.Budget.Meets(bytes, best) ? RunResult.Succeeded : RunResult.OverBudget;
            Show(host, "Publish", best.Number + 1, trial.Planned, trial.Done);
            try
            {
                await host.CallAsync<Publish, PublishInput, Published>(
                    new PublishInput(host.Id, trial.Request, status, started, trial.Inspected, trial.Budget, best) { Parts = trial.Parts }
                );
                var figures = best.Evaluated.Figures;
                return new RunResult(status, trial.Request.Output, bytes, best.Assembled.Bytes, figures.Cosine, figures.Loss.Loss);
            }
            catch (DamagedWorkException e) when (repeats < MostRepeats)
            {
                trial = await TrialAsync(host, Again(host, trial.Request, e));
            }
        }
    }

    private static async Task<Trial> TrialAsync(IOrchestration host, RunRequest request)
    {
        for (var repeats = 0; ; repeats++)
        {
            try
            {
                return await TryAsync(host, request);
            }
            catch (DamagedWorkException e) when (repeats < MostRepeats)
            {
                request = Again(host, request, e);
            }
        }
    }

    private static RunRequest Again(IOrchestration host, RunRequest request, DamagedWorkException damage)
    {
        host.Log($"{damage.Message} It is made again.");
        return request with { Work = RunPaths.Again(request.Work), Stage = 0 };
    }

    // One model, from inspection to the best of its attempts.
    private static async Task<Trial> TryAsync(IOrchestration host, RunRequest request)
    {
        Show(host, "Inspect", 1, null);
        var inspected = await host.CallAsync<Inspect, InspectInput, Inspected>(new InspectInput(request));
        foreach (var stage in inspected.Stages)
        {
            if (stage.Layers)
                await ChainAsync(host, request, stage);
            else
                await ApplyAsync(host, request, stage.Placement);
            request = request with { Stage = request.Stage + stage.Steps };
        }
        Show(host, "Plan", 1, null);
        var planned = await host.CallAsync<Plan, StateInput, Planned>(new StateInput(request));
        if (planned.Surveys)
            planned = await SurveyAsync(host, request, planned);
        var budget = await host.CallAsync<ReadBudget, StateInput, Budget>(new StateInput(request));
        var parts = new RunParts(planned.Calibrates, planned.Finishing);
        if (planned.Calibrates)
            await CalibrateAsync(host, request, planned.Observations, planned);
        var (excess, tighter) = (0L, 1.0);
        if (planned.Mixed)
            planned = await MixAsync(host, request, planned, inspected.Bytes);
        Attempt? best = null;
        var bestDone = new LayersDone(0, 0, 0);
        for (var attempt = 0; ; attempt++)
        {
            var done = await CompressLayers.RunAsync(
                host,
                new LayersInput(request.State, request.Shards, attempt, planned.Tasks, 0, planned.Layers, planned.Placement),
                planned.Bytes
            );
            await FinishAsync(host, request, attempt, parts.Finishing, step => Show(host, step, attempt + 1, planned, done));
            Show(host, "Reassemble", attempt + 1, planned, done);
            var assembled = await host.CallAsync<Reassemble, ReassembleInput, Reassembled>(new ReassembleInput(request, attempt, parts));
            Show(host, "Evaluate", attempt + 1, planned, done);
            var evaluated = await host.CallAsync<Evaluate, EvaluateInput, Evaluated>(new EvaluateInput(request, attempt) { Parts = parts });
            var made = new Attempt(attempt, assembled, evaluated);
            if (planned.Integers && evaluated.Figures.Latency is { RatioLow: > SlowerThan } latency && attempt + 1 < Replan.MostAttempts)
            {
                planned = await host.CallAsync<Replan, ReplanInput, Planned>(
                    new ReplanInput(request, attempt, assembled.Bytes, null) { Slower = latency.Ratio }
                );
                continue;
            }
            var met = budget.Meets(inspected.Bytes, made);
            var bestMet = best is not null && budget.Meets(inspected.Bytes, best);
            var differs = best is null || best.Assembled.Bytes != made.Assembled.Bytes;
            var again = planned.Mixed && attempt < MostChoices && differs ? ChooseAgain(budget, inspected.Bytes, made) : null;
            // Of two that keep the loss, where that is all there is to keep, the smaller; else the nearer.
            var smallest = met && planned.Mixed && budget is { MaxAccuracyLoss: not null, MaxSizeRatio: null };
            if (best is null || (met && !bestMet) || (met == bestMet && Nearer(made, best, smallest)))
                (best, bestDone) = (made, done);
            if (attempt + 1 == Replan.MostAttempts)
                break;
            if (again is var (more, factor))
            {
                (excess, tighter) = (excess + more, tighter * factor);
                planned = await host.CallAsync<ChooseWidths, ChooseInput, Planned>(
                    new ChooseInput(request, attempt + 1, inspected.Bytes, excess, tighter)
                );
                continue;
            }
            if (met || bestMet && planned.Mixed)
                break;
            if (!budget.OverLoss(made))
                break;
            long? largest = budget.MaxSizeRatio is { } ratio ? (long)(ratio * inspected.Bytes) : null;
            var next = await host.CallAsync<Replan, ReplanInput, Planned>(new ReplanInput(request, attempt, assembled.Bytes, largest));
            if (next.Layers == 0)
                break;
            planned = next;
        }
        return best.Evaluated.Figures.NonFinite == 0
            ? new Trial(request, inspected, planned, budget, best, parts, bestDone)
            : throw new BadInputException(
                $"{request.Model}: an output is not finite after compression and was before, however gently it is compressed; skip the layers in front of it."
            );
    }

    // Layer steps whose results the model takes on, before the next step looks at it.
    private static async Task ChainAsync(IOrchestration host, RunRequest request, RunStage stage)
    {
        Show(host, "Plan", 1, null);
        var planned = await host.CallAsync<Plan, StateInput, Planned>(new StateInput(request));
        if (planned.Surveys)
            planned = await SurveyAsync(host, request, planned);
        if (planned.Observations > 0)
            await CalibrateAsync(host, request, planned.Observations, planned);
        await CompressLayers.RunAsync(
            host,
            new LayersInput(request.State, request.Shards, 0, planned.Tasks, 0, planned.Layers, stage.Placement),
            planned.Bytes
        );
        await host.CallAsync<MergeLayers, MergeLayersInput, LayersMerged>(new MergeLayersInput(request, stage.Steps));
    }

    // A step on the model as a whole: looked at, observed where it asks for that, and applied where models may run.
    private static async Task ApplyAsync(IOrchestration host, RunRequest request, StepPlacement placement)
    {
        var step = new GraphStepInput(request, false);
        var tried = await host.CallAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(step);
        if (tried.Observations > 0)
        {
            await CalibrateAsync(host, request, tried.Observations, null);
            step = step with { Observed = true };
            tried = await host.CallAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(step);
        }
        if (tried.Done)
            return;
        await GpuCall.RunAsync<ApplyModelStep, GraphStepInput, GraphStepDone>(
            host,
            request.Work,
            $"step-{request.Stage + 1}",
            step,
            placement
        );
    }

    // Steps on the coded model that run it.
    private static async Task FinishAsync(
        IOrchestration host,
        RunRequest request,
        int attempt,
        IReadOnlyList<RecipeStep> finishing,
        Action<string> show
    )
    {
        for (var i = 0; i < finishing.Count; i++)
        {
            if (finishing[i].Technique is not GraphTechnique { RunsCoded: true })
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

    private static bool Nearer(Attempt made, Attempt best, bool smallest) =>
        smallest ? made.Assembled.Bytes < best.Assembled.Bytes : Budget.Lost(made) < Budget.Lost(best);

    // Statistics of what the layers get to see: of some samples each, then of all together.
    private static async Task CalibrateAsync(IOrchestration host, RunRequest request, int observations, Planned? planned)
    {
        Show(host, "Calibrate", 1, planned);
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

    // Widths are chosen again by what an attempt weighed or lost, where one of the two is to be kept: the size of what lies
    // around the layers is only estimated, and so is what several losses make together.
    private static (long Excess, double Tighter)? ChooseAgain(Budget budget, long bytes, Attempt made)
    {
        if (budget is { MaxSizeRatio: { } ratio, MaxAccuracyLoss: null })
        {
            var over = made.Assembled.Bytes - (long)(ratio * bytes);
            return over > 0 ? (over + Slack, 1) : null;
        }
        if (budget is not { MaxAccuracyLoss: { } most, MaxSizeRatio: null })
            return null;
        var loss = Budget.Lost(made);
        if (budget.OverLoss(made))
            return (0, TighterThan * most / loss);
        return loss < UnusedLoss * most ? (0, Math.Min(LargestStep, TighterThan * most / Math.Max(loss, 1e-9))) : null;
    }

    // Options that depend on the weights of all layers together.
    private static async Task<Planned> SurveyAsync(IOrchestration host, RunRequest request, Planned planned)
    {
        Show(host, "Survey", 1, planned);
        await Task.WhenAll(
            Enumerable
                .Range(0, planned.Layers)
                .Chunk(SurveyWeights.Most)
                .Select(some => host.CallAsync<SurveyWeights, SurveyInput, WeightsSurveyed>(new SurveyInput(request, some[0], some.Length)))
        );
        return await host.CallAsync<AllocateOptions, StateInput, Planned>(new StateInput(request) { Planned = planned });
    }

    // What each width of each layer costs, and the first choice among them.
    private static async Task<Planned> MixAsync(IOrchestration host, RunRequest request, Planned planned, long bytes)
    {
        Show(host, "Measure", 1, planned);
        await Task.WhenAll(
            Enumerable
                .Range(0, planned.Layers)
                .Chunk(MeasureLayers.Most)
                .Select(some =>
                    host.CallAsync<MeasureLayers, MeasureInput, LayersMeasured>(new MeasureInput(request, some[0], some.Length))
                )
        );
        return await host.CallAsync<ChooseWidths, ChooseInput, Planned>(new ChooseInput(request, 0, bytes, 0, 1));
    }

    // What nobody waits for is read after the run's work is cleared, from the result.
    private static RunEvent Request(RunEvent about, Trial trial, int round, bool waits) =>
        about with
        {
            Type = RunEvent.RetrainingRequested,
            Round = round,
            WaitHours = waits ? trial.Budget.RetrainHours : 0,
            Loss = trial.Best.Evaluated.Figures.Loss.Loss,
            MaxLoss = trial.Budget.MaxAccuracyLoss,
            Student =
                $"{(waits ? RunPaths.Assembled(trial.Request.Work, trial.Best.Number) : trial.Request.Output)}/{ModelWriter.ModelName}",
        };

    private static async Task TellAsync(IOrchestration host, RunEvent happened)
    {
        var told = await host.CallAsync<Notify, NotifyInput, Notified>(new NotifyInput(happened));
        foreach (var failure in told.Failures)
            host.Log(failure);
    }

    private static void Show(IOrchestration host, string stage, int attempt, Planned? plan, LayersDone? done = null) =>
        host.SetStatus(
            new RunStatus(
                stage,
                attempt,
                done?.Count ?? 0,
                plan?.Layers ?? 0,
                done?.BytesBefore ?? 0,
                plan?.Bytes ?? 0,
                done?.BytesSaved ?? 0,
                null
            )
        );

    private sealed record Trial(
        RunRequest Request,
        Inspected Inspected,
        Planned Planned,
        Budget Budget,
        Attempt Best,
        RunParts Parts,
        LayersDone Done
    );
}

/// <summary>Weights that were trained again.</summary>
/// <param name="Model">Store path of the model, in the container <c>retrained</c>.</param>
/// <param name="Run">The run that waits for it, or null.</param>
/// <param name="Predecessor">The run whose recipe to take, when none waits; null for the drop's own recipe.</param>
public sealed record RetrainedModel(string Model, string? Run = null, string? Predecessor = null)
{
    /// <summary>The store path that an event names, or null when it names none.</summary>
    /// <param name="json">The event, in JSON.</param>
    public static string? Read(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<RetrainedModel>(json, Json.Options)?.Model is { Length: > 0 } model ? model : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>One attempt's result.</summary>
/// <param name="Number">From 0.</param>
/// <param name="Assembled">The model.</param>
/// <param name="Evaluated">The comparison.</param>
public sealed record Attempt(int Number, Reassembled Assembled, Evaluated Evaluated);
