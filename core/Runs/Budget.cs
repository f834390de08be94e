using System.Text.Json.Serialization;
using Serverless.Core.Recipes;

namespace Serverless.Core.Runs;

/// <summary>The recipe's budget.</summary>
/// <param name="MaxAccuracyLoss">Largest loss, or null.</param>
/// <param name="MaxSizeRatio">Largest size ratio, or null.</param>
/// <param name="RetrainHours">Hours to wait for retrained weights when the loss stays larger; 0 for none.</param>
public sealed record Budget(double? MaxAccuracyLoss, double? MaxSizeRatio, double RetrainHours)
{
    /// <summary>Largest ratio of multiply-accumulates, or null.</summary>
    public double? MaxMacRatio { get; init; }

    /// <summary>Largest ratio of latencies, or null.</summary>
    public double? MaxLatencyRatio { get; init; }

    /// <summary>The largest ratio of latencies that is taken for <see cref="MaxLatencyRatio"/> when it is measured; null for any.</summary>
    [JsonIgnore]
    public double? MostMeasured => (1 + RecipeBudget.LatencyTolerance) * MaxLatencyRatio;

    /// <summary>Whether an attempt loses too much: more than the budget, or numbers that the original has and it has not.</summary>
    public bool OverLoss(Attempt attempt) => Lost(attempt) > (MaxAccuracyLoss ?? double.MaxValue);

    /// <summary>Whether an attempt is within the budget. One whose loss or latency cannot be told is not.</summary>
    public bool Meets(Inspected before, Attempt attempt) =>
        !OverLoss(attempt)
        && (MaxAccuracyLoss is null || attempt.Evaluated.Figures.Loss.Loss is not null)
        && !(MaxSizeRatio is { } ratio && attempt.Assembled.Bytes > ratio * before.Bytes)
        && !(MaxMacRatio is { } macs && attempt.Assembled.MultiplyAccumulates > macs * before.MultiplyAccumulates)
        && (MaxLatencyRatio is null || attempt.Evaluated.Figures.Latency?.Ratio <= MostMeasured);

    /// <summary>What an attempt loses: infinitely much where its outputs are no numbers any more; 0 where it cannot be told.</summary>
    public static double Lost(Attempt attempt) =>
        attempt.Evaluated.Figures.NonFinite > 0 ? double.PositiveInfinity : attempt.Evaluated.Figures.Loss.Loss ?? 0;
}
