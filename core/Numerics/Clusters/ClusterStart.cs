namespace Serverless.Core.Numerics;

/// <summary>Where k-means on a line begins (Han et al. 2016, "Deep Compression", section 3.2).</summary>
public enum ClusterStart
{
    /// <summary>The clusters of least squared error, by dynamic programming over up to 2,048 ranges of equal mass.</summary>
    Optimal,

    /// <summary>Evenly spaced between the extremes.</summary>
    Linear,

    /// <summary>Evenly spaced in the cumulative distribution.</summary>
    Density,

    /// <summary>Numbers drawn at random, from a fixed seed.</summary>
    Random,

    /// <summary>Numbers drawn by their squared distance to those drawn before, from a fixed seed (k-means++).</summary>
    PlusPlus,
}
