using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>How large factors are; one of ratio, energy and rank, or none for a ratio of 0.5.</summary>
public abstract record RankOptions
{
    /// <summary>Weights of the factors over those of the layer (default 0.5).</summary>
    [Range(0.01, 0.99)]
    public double? Ratio { get; init; }

    /// <summary>Share of the squared singular values that is kept: the rank follows, layer by layer.</summary>
    [Range(0.01, 1)]
    public double? Energy { get; init; }

    /// <summary>Rank, the same for every layer; of convolutions that of a split by output, unless 'by' names another.</summary>
    [Range(1, 1 << 20)]
    public int? Rank { get; init; }

    /// <summary>
    /// What has the ratio: layer (default: each layer) or global (all layers together, with the ranks that cost the outputs least).
    /// </summary>
    public RankScope Scope { get; init; } = RankScope.Layer;

    /// <summary>
    /// How kernels of more than one element are split: best (default: the split of least error, layer by layer), output, input, space or
    /// tucker.
    /// </summary>
    public SplitBy By { get; init; } = SplitBy.Best;
}

/// <summary>What a ratio of weights is that of.</summary>
public enum RankScope
{
    /// <summary>Every layer.</summary>
    Layer,

    /// <summary>All layers together.</summary>
    Global,
}

/// <summary>How a convolution's kernel is split between factors.</summary>
public enum SplitBy
{
    /// <summary>The split of least error.</summary>
    Best,

    /// <summary>The kernel, then 1×1.</summary>
    Output,

    /// <summary>1×1, then the kernel.</summary>
    Input,

    /// <summary>One axis of the kernel, then the other.</summary>
    Space,

    /// <summary>1×1, the kernel between fewer channels, 1×1.</summary>
    Tucker,
}
