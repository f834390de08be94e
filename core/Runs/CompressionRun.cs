using Serverless.Core.Events;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// A drop's whole run: the best candidate of its recipe (<see cref="CandidateRun"/>), published. While that is over the loss budget,
/// retraining is requested, and where the recipe says so waited for. Deterministic: hosts may replay it.
/// </summary>
public sealed class CompressionRun : Orchestration<RunRequest, RunResult>
{
    /// <summary>The event that brings retrained weights: a <see cref="RetrainedModel"/>.</summary>
    public const string RetrainedEvent = "retrained";

    /// <summary>How often retrained weights are waited for.</summary>
    public const int MostRetrainings = 3;
    private const int MostRepeats = 5;

    /// <inheritdoc/>
    public override async Task<RunResult> RunAsync(IOrchestration host, RunRequest request)
    {
        var timed = new StageClock(host);
        host = timed;
        var started = host.UtcNow;
        var about = new RunEvent(RunEvent.Started, host.Id, request.Name, request.Model, started);
        try
        {
            await TellAsync(host, about);
            var trial = await CandidateRun.OfAsync(host, request);
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
                trial = await CandidateRun.OfAsync(
                    host,
                    request with
                    {
                        Model = model,
                        Work = $"{request.Work}/retrained-{round}",
                        Snapshot = null,
                    }
                );
            }
            var result = await PublishAsync(timed, trial, started);
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
    private static async Task<RunResult> PublishAsync(StageClock host, Candidate trial, DateTime started)
    {
        for (var repeats = 0; ; repeats++)
        {
            var (best, bytes) = (trial.Best, trial.Inspected.Bytes);
            var status = trial.Budget.Meets(trial.Inspected, best) ? RunResult.Succeeded : RunResult.OverBudget;
            host.SetStatus(RunStatus.Of("Publish", best.Number + 1, trial.Planned, trial.Done));
            try
            {
                await host.CallAsync<Publish, PublishInput, Published>(
                    new PublishInput(host.Id, trial.Request, status, started, trial.Inspected, trial.Budget, best)
                    {
                        Parts = trial.Parts,
                        Attempts = trial.Attempts,
                        Stages = host.Times,
                    }
                );
                var figures = best.Evaluated.Figures;
                return new RunResult(status, trial.Request.Output, bytes, best.Assembled.Bytes, figures.Cosine, figures.Loss.Loss);
            }
            catch (DamagedWorkException e) when (repeats < MostRepeats)
            {
                trial = await CandidateRun.OfAsync(host, CandidateRun.Again(host, trial.Request, e));
            }
        }
    }

    // What nobody waits for is read after the run's work is cleared, from the result.
    private static RunEvent Request(RunEvent about, Candidate trial, int round, bool waits) =>
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
}
