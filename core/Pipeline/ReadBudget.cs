namespace Serverless.Core.Pipeline;

/// <summary>The recipe's budget.</summary>
/// <param name="MaxAccuracyLoss">Largest loss, or null.</param>
/// <param name="MaxSizeRatio">Largest size ratio, or null.</param>
/// <param name="RetrainHours">Hours to wait for retrained weights when the loss stays larger; 0 for none.</param>
public sealed record Budget(double? MaxAccuracyLoss, double? MaxSizeRatio, double RetrainHours)
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
        return new Budget(recipe.Budget?.MaxAccuracyLoss, recipe.Budget?.MaxSizeRatio, recipe.Retrain.Wait);
    }
}
