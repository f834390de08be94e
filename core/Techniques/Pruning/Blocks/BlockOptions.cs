using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>The blocks that a step may take away.</summary>
public enum BlockChoice
{
    /// <summary>All; where they are ranked by influence, those that carry their input on come first.</summary>
    Any,

    /// <summary>Sums x + f(x).</summary>
    Residual,

    /// <summary>Those of attention.</summary>
    Attention,

    /// <summary>Those of matrix products, position by position.</summary>
    Mlp,

    /// <summary>An attention and the products behind it at once.</summary>
    Layer,
}

/// <summary>What a share is of.</summary>
public enum ShareOf
{
    /// <summary>The model's parameters.</summary>
    Parameters,

    /// <summary>The multiply-accumulates with stored weights of a run of the first sample.</summary>
    Macs,
}

/// <summary>Options of every step that takes blocks away.</summary>
public record BlockOptions
{
    /// <summary>Blocks to take away, at most (default 1 where no share is given).</summary>
    [Range(1, 1000)]
    public int? Blocks { get; init; }

    /// <summary>
    /// Share of the model that the blocks may make up together; blocks are taken as long as they fit (default: by number).
    /// </summary>
    [Range(0.0, 0.95)]
    public double? Share { get; init; }

    /// <summary>What the share is of: parameters (default) or macs, the multiply-accumulates with stored weights.</summary>
    public ShareOf ShareOf { get; init; } = ShareOf.Parameters;

    /// <summary>
    /// Blocks to choose among: any (default), residual (sums x + f(x)), attention, mlp, or layer (an attention and the mlp behind it at
    /// once).
    /// </summary>
    public BlockChoice Of { get; init; } = BlockChoice.Any;

    /// <summary>Samples that blocks are ranked and tried on, at most half of the data (default 32).</summary>
    [Range(1, 128)]
    public int Samples { get; init; } = 32;

    /// <summary>Blocks to take away, at most.</summary>
    internal int Most => Blocks ?? (Share is null ? 1 : int.MaxValue);
}
