using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>The blocks that may share.</summary>
public enum SharedParts
{
    /// <summary>All that are alike.</summary>
    Any,

    /// <summary>Sums x + f(x).</summary>
    Residual,

    /// <summary>Those of attention.</summary>
    Attention,

    /// <summary>Those of matrix products, position by position.</summary>
    Mlp,
}

/// <summary>How matrices become one.</summary>
public enum SharedMean
{
    /// <summary>All weigh alike.</summary>
    Mean,

    /// <summary>Each input of each matrix weighs by its mean square, E[x²].</summary>
    Sensitivity,
}

/// <summary>What blocks are chosen by.</summary>
public enum SharedBy
{
    /// <summary>The change of the model's outputs, measured.</summary>
    Loss,

    /// <summary>The distance of their matrices.</summary>
    Distance,
}

/// <summary>Options of <see cref="LayerSharing"/>.</summary>
public sealed record LayerSharingOptions
{
    /// <summary>Blocks that give up matrices of their own, at most (default 1 where no groups are given).</summary>
    [Range(1, 1000)]
    public int? Blocks { get; init; }

    /// <summary>Groups that each set of like blocks is left with: 1 is one set of matrices for all of them (default: by blocks).</summary>
    [Range(1, 1000)]
    public int? Groups { get; init; }

    /// <summary>Blocks to choose among: any (default), residual (sums x + f(x)), attention or mlp.</summary>
    public SharedParts Of { get; init; } = SharedParts.Any;

    /// <summary>
    /// What is joined next: loss (default; the pair of neighbours with which the outputs change least, tried) or distance (the pair whose
    /// matrices are nearest, without runs).
    /// </summary>
    public SharedBy By { get; init; } = SharedBy.Loss;

    /// <summary>
    /// The matrix that stands for several: mean (default), or sensitivity (each input weighs by its mean square in each layer).
    /// </summary>
    public SharedMean Weights { get; init; } = SharedMean.Mean;

    /// <summary>Whether hidden units, channels and heads are put into the order in which the matrices are nearest (default true).</summary>
    public bool Align { get; init; } = true;

    /// <summary>Rank of the difference that each block keeps to itself, 0 for none (default).</summary>
    [Range(0, 4096)]
    public int Rank { get; init; }

    /// <summary>Samples that are tried and observed on, at most half of the data (default 32).</summary>
    [Range(1, 128)]
    public int Samples { get; init; } = 32;

    /// <summary>Blocks that give up matrices of their own, at most.</summary>
    internal int Most => Blocks ?? (Groups is null ? 1 : int.MaxValue);
}
