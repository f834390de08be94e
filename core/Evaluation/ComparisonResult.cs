using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>How the compressed model compares with the original.</summary>
/// <param name="Source"><c>data</c>, <c>synthetic</c>, or <c>none</c> where the models could not be run.</param>
/// <param name="Samples">Runs compared.</param>
/// <param name="Cosine">Of the worst output; null where no number was compared.</param>
/// <param name="RelativeError">Of the worst output; null where no number was compared.</param>
/// <param name="Top1Agreement">Of the first output, or null.</param>
/// <param name="AccuracyBefore">With labels, else null.</param>
/// <param name="AccuracyAfter">With labels, else null.</param>
/// <param name="Labelled">Labelled rows.</param>
/// <param name="Latency">What a run takes; null where the models were not run.</param>
public sealed record ComparisonResult(
    string Source,
    int Samples,
    double? Cosine,
    double? RelativeError,
    double? Top1Agreement,
    double? AccuracyBefore,
    double? AccuracyAfter,
    long Labelled,
    Latency? Latency
)
{
    /// <summary>Of outputs that were compared.</summary>
    /// <param name="source">Where the samples come from.</param>
    /// <param name="samples">Runs compared.</param>
    /// <param name="fidelity">The outputs.</param>
    /// <param name="latency">What a run takes, or null.</param>
    internal static ComparisonResult Of(string source, int samples, Fidelity fidelity, Latency? latency) =>
        new(
            source,
            samples,
            fidelity.Cosine,
            fidelity.RelativeError,
            fidelity.Top1Agreement,
            fidelity.AccuracyBefore,
            fidelity.AccuracyAfter,
            fidelity.Labelled,
            latency
        )
        {
            NonFinite = fidelity.NonFinite,
        };

    // Below this a difference between two runs of one model is that of the order of sums in its threads.
    private const double Repeatable = 1e-3;

    /// <summary>What loading the original took; null where it is not loaded whole.</summary>
    public LoadCost? LoadBefore { get; init; }

    /// <summary>What loading the compressed model took; null where it is not loaded whole.</summary>
    public LoadCost? LoadAfter { get; init; }

    /// <summary>Why nothing was compared, or null.</summary>
    public string? NotCompared { get; init; }

    /// <summary>Every output by itself.</summary>
    public IReadOnlyList<OutputFidelity> Outputs { get; init; } = [];

    /// <summary>Numbers that were finite before compression and are NaN or infinite after.</summary>
    public long NonFinite { get; init; }

    /// <summary>Relative error of the original against itself, run twice on the same sample; null where it was not run.</summary>
    public double? RepeatError { get; init; }

    /// <summary>Labels that are no classes of the first output.</summary>
    public long LabelsOutside { get; init; }

    /// <summary>Inputs that are zero in every sample of the data.</summary>
    public IReadOnlyList<string> ZeroInputs { get; init; } = [];

    /// <summary>Whether the original puts out the same when it is run again; else a difference says nothing about compression.</summary>
    public bool IsRepeatable => RepeatError is null or < Repeatable;

    /// <summary>
    /// What a loss budget is about: accuracy when labelled, else top-1 disagreement on data, else 1 − cosine; null where that is not known.
    /// A model that puts out NaN where the original does not has lost everything.
    /// </summary>
    public (string Measure, double? Loss) Loss
    {
        get
        {
            if (NonFinite > 0)
                return ("nonFinite", 1);
            if (!IsRepeatable)
                return ("none", null);
            if (AccuracyBefore is { } before && AccuracyAfter is { } after)
                return ("accuracy", Math.Max(0, before - after));
            if (Source == Comparison.Data && Top1Agreement is { } agreement)
                return ("top1Disagreement", 1 - agreement);
            return Cosine is { } cosine ? ("cosineDistance", 1 - cosine)
                : Top1Agreement is { } same ? ("top1Disagreement", 1 - same)
                : ("none", null);
        }
    }
}
