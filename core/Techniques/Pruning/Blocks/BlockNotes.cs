using System.Text.Json.Serialization;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>What reports say of the blocks of a model.</summary>
/// <param name="Removed">Blocks that were taken away.</param>
/// <param name="Candidates">Blocks that were to choose from.</param>
/// <param name="Parameters">Weights that went with them, of all weights.</param>
/// <param name="ParametersShare">Their share of the model's weights.</param>
/// <param name="MacsShare">Their share of the multiply-accumulates with stored weights, in a run of the first sample.</param>
/// <param name="Samples">Samples that the blocks were ranked on.</param>
/// <param name="Reason">Why there are fewer than asked for, or null.</param>
public sealed record BlocksRemoved(
    int Removed,
    int Candidates,
    long Parameters,
    double ParametersShare,
    double MacsShare,
    int Samples,
    string? Reason
);

/// <summary>A block, as reports have it.</summary>
/// <param name="From">The value that goes in.</param>
/// <param name="To">The value that comes out.</param>
/// <param name="Kind">How the one is found in the other, and what the block does.</param>
/// <param name="Influence">1 − cosine of input and output, over positions; null where it is not known.</param>
/// <param name="Parameters">Its weights.</param>
/// <param name="MultiplyAccumulates">Multiply-accumulates with them, in a run of the first sample.</param>
/// <param name="Removed">Whether it was taken away.</param>
/// <param name="Note">Why it cannot be, or null.</param>
public sealed record NotedBlock(
    string From,
    string To,
    string Kind,
    double? Influence,
    long Parameters,
    long MultiplyAccumulates,
    bool Removed,
    string? Note
)
{
    /// <summary>What went with it; null where it stays.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public NotedParts? Parts { get; init; }
}

/// <summary>What went with a block.</summary>
/// <param name="Nodes">Names of nodes; of one without a name its operator and output.</param>
/// <param name="Constants">Names of initializers.</param>
public sealed record NotedParts(IReadOnlyList<string> Nodes, IReadOnlyList<string> Constants);

/// <summary>What the model puts out without some of its blocks, against what it put out with all.</summary>
/// <param name="Blocks">Blocks taken away.</param>
/// <param name="RelativeError">Relative error of the worst output, on samples that techniques see.</param>
/// <param name="Cosine">Its cosine; null where no number was compared.</param>
/// <param name="Lost">What the budget of accuracy is about; null where that is not known.</param>
/// <param name="ParametersShare">Share of the model's weights that is gone.</param>
/// <param name="To">Output of the block that was taken away last.</param>
public sealed record BlockPoint(int Blocks, double RelativeError, double? Cosine, double? Lost, double ParametersShare, string To);
