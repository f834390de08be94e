namespace Serverless.Core.Recipes;

/// <summary>How the result is compared with the original.</summary>
public sealed record EvaluateOptions
{
    /// <summary>Minutes that the comparison may take; from 0.05 to 60, default 10.</summary>
    [Techniques.Option("Minutes that comparing the models may take (default 10); other steps that run the model get three times that.", Min = 0.05, Max = 60)]
    public double Timeout { get; init; } = 10;
}
