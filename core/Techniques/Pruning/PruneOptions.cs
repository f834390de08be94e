using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>How the sparsity is shared out among layers.</summary>
public enum PruneScope
{
    /// <summary>Every layer has the same.</summary>
    Layer,

    /// <summary>The least weights of all layers together: one threshold for the model.</summary>
    Global,

    /// <summary>
    /// Layers of few weights for their inputs and outputs keep more of them (Evci et al. 2020, "Rigging the Lottery", section 3(1)).
    /// </summary>
    Erk,

    /// <summary>Each layer's is chosen by what it costs the outputs.</summary>
    Measured,
}

/// <summary>Options of every pruning of single weights.</summary>
public abstract record PruneOptions
{
    /// <summary>Share of the weights that become zero (default 0.5, or what an N:M pattern leaves out).</summary>
    [Range(0.0, 0.99)]
    public double? Sparsity { get; init; }

    /// <summary>
    /// Which weights may become zero together: none (default: any), N:M (N of M consecutive inputs of an output are kept, as 2:4; M to 32),
    /// or RxC (blocks of R outputs and C inputs, as 1x16).
    /// </summary>
    [RegularExpression(SparsityPattern.Syntax, ErrorMessage = "'{0}' takes none, N:M with N < M up to 32, as 2:4, or blocks, as 1x16")]
    public string Pattern { get; init; } = SparsityPattern.None;

    /// <summary>
    /// What has the sparsity: layer (default: every layer), global (magnitude alone: the smallest of the model, by one threshold), erk (all
    /// layers together, small ones less than large ones), or measured (all together, each as much as it can bear).
    /// </summary>
    public PruneScope Scope { get; init; } = PruneScope.Layer;

    /// <summary>
    /// Rounds of rising sparsity (default 1), each calibrated on the model as the round before left it (Zhu and Gupta 2017, eq. 1).
    /// </summary>
    [Range(1, 100)]
    public int Rounds { get; init; } = 1;
}
