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

    /// <summary>Most samples that are compared (default: as many as the time allows, 10,000 at most).</summary>
    [Range(1, 10_000)]
    public int? Samples { get; init; }

    /// <summary>Time the two models against each other (default true); without it nothing is undone for being slower.</summary>
    public bool Latency { get; init; } = true;
}
