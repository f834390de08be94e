using System.Globalization;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What became of a group.</summary>
/// <param name="Name">The first constant that makes its units.</param>
/// <param name="Sort">What its units are.</param>
/// <param name="Units">How many there were.</param>
/// <param name="Kept">How many are left.</param>
public sealed record GroupShrunk(string Name, UnitSort Sort, int Units, int Kept);

/// <summary>A point of the curve that the search went along.</summary>
/// <param name="Cost">What is limited, over what it was: multiply-accumulates, or the cost that the option names.</param>
/// <param name="RelativeError">Predicted relative error of the outputs.</param>
public sealed record ShrinkPoint(double Cost, double RelativeError);

/// <summary>Relative errors of the outputs on samples that the step has seen; null where the model could not be run.</summary>
/// <param name="Cut">Without refit.</param>
/// <param name="Refitted">With each layer refitted to what it took before.</param>
/// <param name="Staged">With layers refitted one after another to what they take now.</param>
/// <param name="Note">Why nothing was done, or less than asked for; else null.</param>
public sealed record ShrinkErrors(double? Cut, double? Refitted, double? Staged, string? Note = null);

/// <summary>A choice of units on the way to a latency, over that of the original.</summary>
/// <param name="Predicted">By the table of operators.</param>
/// <param name="Measured">Timed; null where the model is too large to be timed here.</param>
public sealed record LatencyTry(double Predicted, double? Measured);

/// <summary>Latencies over that of the original.</summary>
/// <param name="Target">What was asked for.</param>
/// <param name="Before">Of the model as the step found it; 1 where it was not timed.</param>
/// <param name="Predicted">What the table of operators predicts of the choice.</param>
/// <param name="Measured">Of the choice, timed against the original; null where the model is too large to be timed here.</param>
/// <param name="Tries">Choices that were timed.</param>
public sealed record ShrinkLatency(double Target, double Before, double Predicted, double? Measured, int Tries)
{
    /// <summary>Why the choice is slower than asked for; null where it is not.</summary>
    internal string? Missed =>
        Measured > (1 + LatencySearch.Near) * Target
            ? string.Create(
                CultureInfo.InvariantCulture,
                $"the fastest of {Tries} choices takes {Measured:0.###} of the original's latency"
            )
            : null;

    /// <summary>The choices in the order in which they were timed.</summary>
    public IReadOnlyList<LatencyTry> Tried { get; init; } = [];

    /// <summary>Layers whose time the table tells.</summary>
    public int Layers { get; init; }

    /// <summary>Entries of the table.</summary>
    public int TableEntries { get; init; }

    /// <summary>Entries that this step measured; the others were known to this machine.</summary>
    public int TableMeasured { get; init; }
}
