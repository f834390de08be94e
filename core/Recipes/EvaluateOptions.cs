using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Recipes;

/// <summary>How the result is compared with the original.</summary>
public sealed record EvaluateOptions
{
    /// <summary>
    /// Minutes that comparing the models may take, on as many samples as fit (default 10); other steps that run the model get three times
    /// that. Samples are taken for six tenths of it.
    /// </summary>
    [Range(0.05, 60)]
    public double Timeout { get; init; } = 10;

    /// <summary>Time the two models against each other (default true); without it nothing is undone for being slower.</summary>
    public bool Latency { get; init; } = true;
}
