namespace Serverless.Core.Recipes;

/// <summary>How the result is compared with the original.</summary>
public sealed record EvaluateOptions
{
    /// <summary>
    /// Minutes that the comparison may take; from 0.05 to 60, default 10. Samples are taken for six tenths of it, as far as the data goes.
    /// </summary>
    [Techniques.Option(
        "Minutes that comparing the models may take, on as many samples as fit (default 10); other steps that run the model get three times that.",
        Min = 0.05,
        Max = 60
    )]
    public double Timeout { get; init; } = 10;

    /// <summary>Whether the two models are timed against each other; default true.</summary>
    [Techniques.Option("Times the two models against each other (default true); without it nothing is undone for being slower.")]
    public bool Latency { get; init; } = true;
}
