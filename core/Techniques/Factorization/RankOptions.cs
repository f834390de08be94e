using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>How large factors are; one of ratio, energy and rank, or none for a ratio of 0.5.</summary>
public abstract record RankOptions
{
    /// <summary>Weights of both factors over those of the layer (default 0.5).</summary>
    [Range(0.01, 0.99)]
    public double? Ratio { get; init; }

    /// <summary>Share of the squared singular values that is kept: the rank follows, layer by layer.</summary>
    [Range(0.01, 1)]
    public double? Energy { get; init; }

    /// <summary>Rank, the same for every layer.</summary>
    [Range(1, 1 << 20)]
    public int? Rank { get; init; }

    /// <summary>
    /// What has the ratio: layer (default: each layer) or global (all layers together, with the ranks that cost the outputs least).
    /// </summary>
    public RankScope Scope { get; init; } = RankScope.Layer;
}

/// <summary>What a ratio of weights is that of.</summary>
public enum RankScope
{
    /// <summary>Every layer.</summary>
    Layer,

    /// <summary>All layers together.</summary>
    Global,
}
