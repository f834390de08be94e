namespace Serverless.Core.Techniques.Simplification;

/// <summary>How the graph around the weights is tidied; all of it leaves the outputs as they were.</summary>
public sealed record SimplifyOptions
{
    /// <summary>What becomes of names inside the graph; inputs and outputs keep theirs.</summary>
    [Option("Names inside the graph: short (default) or keep. Inputs, outputs and weights' reports keep theirs.")]
    public NameStyle Names { get; init; } = NameStyle.Short;

    /// <summary>Compute what depends on constants alone.</summary>
    [Option(
        "Compute expressions of constants in front of weights once, as weight normalization, transposed weights and fake "
            + "quantization are (default true)."
    )]
    public bool Constants { get; init; } = true;

    /// <summary>Fold BatchNormalization and constant factors and offsets into the Conv before them.</summary>
    [Option("Fold BatchNormalization, and factors and offsets that are constants, into the convolution before it (default true).")]
    public bool BatchNorm { get; init; } = true;

    /// <summary>What becomes of inputs of the model that have an initializer.</summary>
    [Option(
        "Inputs of the model that are initializers too, which a caller may override: keep (default: they and their weights "
            + "stay as they are) or constant (they are no inputs any more)."
    )]
    public InitializerInputs InitializerInputs { get; init; } = InitializerInputs.Keep;

    /// <summary>Write the hard swish in two operators.</summary>
    [Option("Write x * clip(x + 3, 0, 6) / 6 as x * HardSigmoid(x) (default true).")]
    public bool HardSwish { get; init; } = true;
}

/// <summary>What becomes of inputs of the model that have an initializer as a default (ONNX IR, "Graphs").</summary>
public enum InitializerInputs
{
    /// <summary>A caller may go on to override them.</summary>
    Keep,

    /// <summary>They are constants, and no inputs.</summary>
    Constant,
}

/// <summary>What becomes of names inside the graph.</summary>
public enum NameStyle
{
    /// <summary>A few characters each, where that saves bytes.</summary>
    Short,

    /// <summary>As they were.</summary>
    Keep,
}

/// <summary>Tidies the graph around the weights; all of it leaves the outputs as they were.</summary>
public sealed class Simplify : GraphTechnique<SimplifyOptions>
{
    /// <inheritdoc/>
    public override string Step => "simplify";

    /// <inheritdoc/>
    public override string About =>
        "Constants computed and merged, batch normalization folded, names shortened: the model computes what it did.";

    /// <inheritdoc/>
    public override bool IsImplied => true;

    /// <inheritdoc/>
    public override StepOrder Order => StepOrder.First;
}
