using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// The best attempt at a recipe, with its figures; nothing is published. Inspect → stages of the recipe → attempts: CompressLayer × N →
/// steps on the coded model → Reassemble → Evaluate, and back to gentler settings while the loss is over the budget, then back to fewer
/// of them while it holds (<see cref="Climb"/>).
/// </summary>
public sealed class CandidateRun : Orchestration<RunRequest, Candidate>
{
    private const int MostChoices = 5,
        MostRepeats = 5;
    private const double TighterThan = 0.7,
        UnusedLoss = 0.5,
        LargestStep = 4;
    private const int Slack = 32;

    // Less is within what a machine does differently from one day to the next.
    private const double SlowerThan = 1.02;

    /// <inheritdoc/>
    public override Task<Candidate> RunAsync(IOrchestration host, RunRequest request) => OfAsync(host, request);

    /// <summary>Finds the candidate, as a part of another orchestration.</summary>
    /// <param name="host">The orchestration.</param>
    /// <param name="request">The model and the recipe.</param>
    /// <exception cref="BadInputException">The model or the recipe is wrong, or no attempt puts out finite numbers.</exception>
    internal static async Task<Candidate> OfAsync(IOrchestration host, RunRequest request)
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

    /// <summary>
    /// The request for the same work in another folder: all of it but the compressed layers, which are found by their hash.
    /// </summary>
    internal static RunRequest Again(IOrchestration host, RunRequest request, DamagedWorkException damage)
    {
        host.Log($"{damage.Message} It is made again.");
        return request with { Work = RunPaths.Again(request.Work), Stage = 0 };
    }

    private static async Task<Candidate> TryAsync(IOrchestration host, RunRequest request)
    {
        host.SetStatus(RunStatus.Of("Inspect", 1, null));
        var inspected = await host.CallAsync<Inspect, InspectInput, Inspected>(new InspectInput(request));
        var calibrated = new List<int>();
        foreach (var stage in inspected.Stages)
        {
            var seen = stage.Layers
                ? await Stages.ChainAsync(host, request, stage, inspected.Bytes)
                : await Stages.ApplyAsync(host, request, stage.Placement);
            if (seen)
                calibrated.Add(request.Stage);
            request = request with { Stage = request.Stage + stage.Steps };
        }
        var planned = await Stages.PlanAsync(host, request, inspected.Bytes);
        var budget = inspected.Budget;
        if (planned.Calibrates)
            calibrated.Add(request.Stage);
        var parts = new RunParts(calibrated, planned.Finishing);
        var (excess, tighter) = (0L, 1.0);
        Climb? climb = null;
        Attempt? best = null;
        var attempts = 0;
        var bestDone = new LayersDone(0, 0, 0);
        for (var attempt = 0; ; attempt++)
        {
            var done = await CompressLayers.RunAsync(
                host,
                new LayersInput(request.State, request.Shards, attempt, planned.Tasks, 0, planned.Layers, planned.Placement),
                planned.Bytes
            );
            await Stages.FinishAsync(
                host,
                request,
                attempt,
                parts.Finishing,
                step => host.SetStatus(RunStatus.Of(step, attempt + 1, planned, done))
            );
            host.SetStatus(RunStatus.Of("Reassemble", attempt + 1, planned, done));
            var assembled = await host.CallAsync<Reassemble, ReassembleInput, Reassembled>(new ReassembleInput(request, attempt, parts));
            var evaluated = Evaluated.Not;
            if (request.Evaluates)
            {
                host.SetStatus(RunStatus.Of("Evaluate", attempt + 1, planned, done));
                evaluated = await host.CallAsync<Evaluate, EvaluateInput, Evaluated>(
                    new EvaluateInput(request, attempt)
                    {
                        Parts = parts,
                        Decides = planned.Integers,
                        MostLatencyRatio = budget.MostMeasured,
                    }
                );
            }
            var made = new Attempt(attempt, assembled, evaluated);
            attempts = attempt + 1;
            if (planned.Integers && evaluated.Figures.Latency is { RatioLow: > SlowerThan } latency && attempt + 1 < Replan.MostAttempts)
            {
                planned = await host.CallAsync<Replan, ReplanInput, Planned>(
                    new ReplanInput(request, attempt + 1, Climb.From(made), null) { Slower = latency.Ratio }
                );
                continue;
            }
            var met = budget.Meets(inspected, made);
            var bestMet = best is not null && budget.Meets(inspected, best);
            var differs = best is null || best.Assembled.Bytes != made.Assembled.Bytes;
            var again = planned.Open && attempt < MostChoices && differs ? ChooseAgain(budget, inspected.Bytes, made) : null;
            // Of two that keep the loss, the smaller; else the nearer.
            if (best is null || (met && !bestMet) || (met == bestMet && Nearer(made, best, met && budget.MaxAccuracyLoss is not null)))
                (best, bestDone) = (made, done);
            if (attempt + 1 == Replan.MostAttempts)
                break;
            if (again is var (more, factor))
            {
                (excess, tighter) = (excess + more, tighter * factor);
                planned = planned.With(
                    await host.CallAsync<Allocate, AllocateInput, Planned>(
                        new AllocateInput(request, attempt + 1, inspected.Bytes, excess, tighter)
                    )
                );
                continue;
            }
            if (climb is null && (met || (bestMet && planned.Open)))
                break;
            if (!met && !budget.OverLoss(made))
                break;
            climb = climb?.After(made, planned.Moves, met) ?? Climb.From(made);
            long? largest = budget.MaxSizeRatio is { } ratio ? (long)(ratio * inspected.Bytes) : null;
            var next = await host.CallAsync<Replan, ReplanInput, Planned>(new ReplanInput(request, attempt + 1, climb, largest));
            if (next.Layers == 0)
                break;
            planned = next;
        }
        return best.Evaluated.Figures.NonFinite == 0
            ? new Candidate(request, inspected, planned, best, parts, bestDone) { Attempts = attempts }
            : throw new BadInputException(
                $"{request.Model}: an output is not finite after compression and was before, however gently it is "
                    + "compressed; skip the layers in front of it."
            );
    }

    private static bool Nearer(Attempt made, Attempt best, bool smallest) =>
        smallest ? made.Assembled.Bytes < best.Assembled.Bytes : Budget.Lost(made) < Budget.Lost(best);

    // Settings are chosen again by what an attempt weighed or lost, where one of the two is to be kept: the size of what lies
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
}

/// <summary>A recipe's best attempt.</summary>
/// <param name="Request">The run, at the state that attempts begin with.</param>
/// <param name="Inspected">The original.</param>
/// <param name="Planned">The plan of the last attempt.</param>
/// <param name="Best">The attempt, with its figures.</param>
/// <param name="Parts">What the run has written.</param>
/// <param name="Done">The layers that the attempt compressed.</param>
public sealed record Candidate(RunRequest Request, Inspected Inspected, Planned Planned, Attempt Best, RunParts Parts, LayersDone Done)
{
    /// <summary>Attempts that were made.</summary>
    public int Attempts { get; init; }

    /// <summary>The budget of the recipe.</summary>
    public Budget Budget => Inspected.Budget;
}

/// <summary>One attempt's result.</summary>
/// <param name="Number">From 0.</param>
/// <param name="Assembled">The model.</param>
/// <param name="Evaluated">The comparison.</param>
public sealed record Attempt(int Number, Reassembled Assembled, Evaluated Evaluated);
