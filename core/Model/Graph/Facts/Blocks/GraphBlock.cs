using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>How the value that goes into a block is found again in the one that comes out.</summary>
public enum BlockKind
{
    /// <summary>x + f(x), or a normalization or bound of it where x is the output of such a one.</summary>
    Residual,

    /// <summary>A part of x goes past f and is joined with the rest behind it.</summary>
    Split,

    /// <summary>x · f(x), as in squeeze and excitation.</summary>
    Gate,

    /// <summary>f(x), of the same shape.</summary>
    Plain,
}

/// <summary>What a residual block of a transformer does.</summary>
public enum BlockRole
{
    /// <summary>Anything else.</summary>
    Other,

    /// <summary>Positions look at each other.</summary>
    Attention,

    /// <summary>Each position by itself, by matrix products.</summary>
    Mlp,

    /// <summary>An attention block and the block of matrix products behind it.</summary>
    Layer,
}

/// <summary>
/// A part of the main graph that can be left out: whatever takes its output takes its input instead, of the same type and shape, and
/// nothing else uses a value from inside it.
/// </summary>
/// <param name="Input">The value that goes in. It may be used elsewhere too.</param>
/// <param name="Output">The value that comes out.</param>
/// <param name="Kind">How the one is found in the other.</param>
/// <param name="Role">What it does, of residual blocks.</param>
public sealed record GraphBlock(string Input, string Output, BlockKind Kind, BlockRole Role)
{
    /// <summary>The nodes that go with it: those from input to output, and those that nothing else uses; in topological order.</summary>
    public required IReadOnlyList<NodeProto> Nodes { get; init; }

    /// <summary>Initializers that nothing else uses.</summary>
    public required IReadOnlyList<string> Constants { get; init; }

    /// <summary>The axis of input and output that channels lie along.</summary>
    public required int Axis { get; init; }

    /// <summary>Nodes behind the block that read the length of a value inside it, which its input has too, by their output.</summary>
    public IReadOnlyList<string> Lengths { get; init; } = [];

    /// <summary>Whether both have a node in common.</summary>
    public bool Overlaps(GraphBlock other)
    {
        var own = Nodes.ToHashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        return other.Nodes.Any(own.Contains);
    }
}

/// <summary>A block of the kind x + f(x) that cannot be left out.</summary>
/// <param name="Input">The value that goes in.</param>
/// <param name="Output">The value that comes out.</param>
/// <param name="Reason">Why.</param>
public sealed record RefusedBlock(string Input, string Output, string Reason);
