namespace Serverless.Core.Pipeline;

/// <summary>
/// The flow (DESIGN.md): Inspect → Plan → CompressLayer × N → Reassemble → Evaluate → Publish, and back to a gentler
/// plan while the loss is over the budget. Deterministic: hosts may replay it.
/// </summary>
public static class CompressionRun
{
    /// <summary>Runs one drop to its result.</summary>
    public static async Task<RunResult> RunAsync(IOrchestration host, RunRequest request)
    {
        var started = host.UtcNow;
        Show("Inspect", 1, new Planned(0, 0, 0));
        var inspected = await host.CallAsync<Inspect, InspectInput, Inspected>(new InspectInput(request));
        Show("Plan", 1, new Planned(0, 0, 0));
        var planned = await host.CallAsync<Plan, PlanInput, Planned>(new PlanInput(request));
        var budget = await host.CallAsync<ReadBudget, PlanInput, Budget>(new PlanInput(request));
        Attempt? best = null;
        for (var attempt = 0; ; attempt++)
        {
            await CompressAsync(host, request, attempt, planned);
            Show("Reassemble", attempt + 1, planned);
            var assembled = await host.CallAsync<Reassemble, ReassembleInput, Reassembled>(new ReassembleInput(request, attempt));
            Show("Evaluate", attempt + 1, planned);
            var evaluated = await host.CallAsync<Evaluate, EvaluateInput, Evaluated>(new EvaluateInput(request, attempt));
            var made = new Attempt(attempt, assembled, evaluated);
            var met = budget.Meets(inspected.Bytes, made);
            if (met || best is null || made.Evaluated.Figures.Loss.Loss < best.Evaluated.Figures.Loss.Loss) best = made;
            if (met || attempt + 1 == Replan.MostAttempts || !budget.OverLoss(made)) break;
            long? largest = budget.MaxSizeRatio is { } ratio ? (long)(ratio * inspected.Bytes) : null;
            var next = await host.CallAsync<Replan, ReplanInput, Planned>(new ReplanInput(request, attempt, assembled.Bytes, largest));
            if (next.Layers == 0) break;
            planned = next;
        }
        var status = budget.Meets(inspected.Bytes, best) ? RunResult.Succeeded : RunResult.OverBudget;
        Show("Publish", best.Number + 1, planned);
        await host.CallAsync<Publish, PublishInput, Published>(new PublishInput(host.RunId, request, status, started, inspected, budget, best));
        return new RunResult(status, request.Output, inspected.Bytes, best.Assembled.Bytes, best.Evaluated.Figures.Cosine, best.Evaluated.Figures.Loss.Loss);

        void Show(string stage, int attempt, Planned plan) => host.SetStatus(new RunStatus(stage, attempt, 0, plan.Layers, 0, plan.Bytes, 0, null));
    }

    private static async Task CompressAsync(IOrchestration host, RunRequest request, int attempt, Planned planned)
    {
        var (done, bytes, saved) = (0, 0L, 0L);
        host.SetStatus(new RunStatus("Compress", attempt + 1, 0, planned.Layers, 0, planned.Bytes, 0, null));
        await Task.WhenAll(Enumerable.Range(0, planned.Layers).Select(OneAsync));

        async Task OneAsync(int index)
        {
            var layer = await host.CallAsync<CompressLayer, CompressInput, CompressedLayer>(new CompressInput(request.Work, request.Shards, attempt, index));
            var (n, b, s) = (Interlocked.Increment(ref done), Interlocked.Add(ref bytes, layer.BytesBefore), Interlocked.Add(ref saved, layer.BytesBefore - layer.BytesAfter));
            host.SetStatus(new RunStatus("Compress", attempt + 1, n, planned.Layers, b, planned.Bytes, s, layer));
        }
    }
}

/// <summary>One attempt's result.</summary>
/// <param name="Number">From 0.</param>
/// <param name="Assembled">The model.</param>
/// <param name="Evaluated">The comparison.</param>
public sealed record Attempt(int Number, Reassembled Assembled, Evaluated Evaluated);

/// <summary>The recipe's budget.</summary>
/// <param name="MaxAccuracyLoss">Largest loss, or null.</param>
/// <param name="MaxSizeRatio">Largest size ratio, or null.</param>
public sealed record Budget(double? MaxAccuracyLoss, double? MaxSizeRatio)
{
    /// <summary>Whether an attempt loses too much.</summary>
    public bool OverLoss(Attempt attempt) => MaxAccuracyLoss is { } most && attempt.Evaluated.Figures.Loss.Loss > most;

    /// <summary>Whether an attempt is within the budget.</summary>
    public bool Meets(long bytesBefore, Attempt attempt) =>
        !OverLoss(attempt) && !(MaxSizeRatio is { } ratio && attempt.Assembled.Bytes > ratio * bytesBefore);
}

/// <summary>Reads the budget from the recipe, for the orchestration to decide by.</summary>
public sealed class ReadBudget : Activity<PlanInput, Budget>
{
    /// <inheritdoc/>
    public override async Task<Budget> RunAsync(PlanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var recipe = await Inspect.RecipeOf(context.Store, input.Request, cancellation);
        return new Budget(recipe.Budget?.MaxAccuracyLoss, recipe.Budget?.MaxSizeRatio);
    }
}
