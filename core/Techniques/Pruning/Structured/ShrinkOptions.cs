using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What units are removed.</summary>
public enum UnitSort
{
    /// <summary>All of them.</summary>
    All,

    /// <summary>Channels that convolutions make.</summary>
    Channels,

    /// <summary>Hidden units of fully connected and recurrent layers.</summary>
    Units,

    /// <summary>Heads of attention, and whatever else spans several rows of a weight.</summary>
    Heads,
}

/// <summary>What a ratio of units is that of.</summary>
public enum ShrinkScope
{
    /// <summary>Every group of coupled units.</summary>
    Group,

    /// <summary>All groups together, each by what it costs the outputs.</summary>
    Measured,
}

/// <summary>What a ratio of the model is that of.</summary>
public enum ShrinkCostKind
{
    /// <summary>Multiply-accumulates with stored weights.</summary>
    Macs,

    /// <summary>Weights.</summary>
    Parameters,

    /// <summary>Bytes of weights.</summary>
    Bytes,

    /// <summary>Time of a run, measured on this machine.</summary>
    Latency,
}

/// <summary>Names of kinds of cost.</summary>
internal static class ShrinkCostNames
{
    /// <summary>What there is less of, as in a sentence.</summary>
    public static string Plural(this ShrinkCostKind kind) =>
        kind switch
        {
            ShrinkCostKind.Macs => "multiply-accumulates",
            ShrinkCostKind.Parameters => "weights",
            ShrinkCostKind.Bytes => "bytes of weights",
            _ => "milliseconds of a run",
        };
}

/// <summary>Options of the methods of <c>shrink</c>.</summary>
public sealed record ShrinkOptions
{
    /// <summary>
    /// Share that goes: with scope measured of what by names, with scope group of the units of each group (default 0.3; with scope
    /// measured, the recipe's maxMacRatio, maxSizeRatio or maxLatencyRatio where it has one).
    /// </summary>
    [Range(0.01, 0.95)]
    public double? Ratio { get; init; }

    /// <summary>
    /// What the ratio is that of, with scope measured: macs (default, multiply-accumulates), parameters, bytes or latency.
    /// </summary>
    public ShrinkCostKind By { get; init; } = ShrinkCostKind.Macs;

    /// <summary>Units that are removed: all (default), channels, units or heads.</summary>
    public UnitSort Of { get; init; } = UnitSort.All;

    /// <summary>
    /// What has the ratio: measured (default: all groups together, each shrunk by what its units cost the model's outputs) or group (every
    /// group).
    /// </summary>
    public ShrinkScope Scope { get; init; } = ShrinkScope.Measured;

    /// <summary>Refit the weights of the layers behind by least squares on samples (default true).</summary>
    public bool Refit { get; init; } = true;

    /// <summary>
    /// Ridge of the refit, in proportion to each input's energy (default 0.1): how much the weights are drawn to those they were. Few
    /// samples want more, many less.
    /// </summary>
    [Range(0.0001, 10)]
    public double Damping { get; init; } = 0.1;

    /// <summary>Samples to observe and to refit on, at most half of the data (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>
    /// What is left of a group is a multiple of this, as kernels like it (default 8); groups of fewer than twice as many are free.
    /// </summary>
    [Range(1, 256)]
    public int Multiple { get; init; } = 8;
}
