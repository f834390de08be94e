using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>A block with what it takes and does.</summary>
/// <param name="Block">The block.</param>
/// <param name="Parameters">Weights that go with it.</param>
/// <param name="MultiplyAccumulates">Multiply-accumulates with them, of a run of the first sample.</param>
internal sealed record RankedBlock(GraphBlock Block, long Parameters, long MultiplyAccumulates)
{
    /// <summary>1 − cosine of input and output (<see cref="BlockInfluence"/>); null where it is not known.</summary>
    public double? Influence { get; init; }

    /// <summary>Whether the input is found in the output as it was, or a part of it.</summary>
    public bool CarriesInput => Block.Kind is BlockKind.Residual or BlockKind.Split;

    /// <summary>Blocks of a model that hold weights, of those asked for.</summary>
    /// <param name="found">All blocks.</param>
    /// <param name="of">Which of them.</param>
    /// <param name="size">Sizes of the model's weights.</param>
    public static IReadOnlyList<RankedBlock> Of(GraphBlocks found, BlockChoice of, WeightSizes size) =>
        [.. found.All.Where(b => IsOf(b, of)).Select(size.Of).Where(b => b.Parameters > 0)];

    /// <summary>Why a block is to stay: it holds a weight that the recipe leaves alone. Null where it is not.</summary>
    public string? Held { get; init; }

    private static bool IsOf(GraphBlock block, BlockChoice of) =>
        of switch
        {
            BlockChoice.Residual => block.Kind == BlockKind.Residual && block.Role != BlockRole.Layer,
            BlockChoice.Attention => block.Role == BlockRole.Attention,
            BlockChoice.Mlp => block.Role == BlockRole.Mlp,
            BlockChoice.Layer => block.Role == BlockRole.Layer,
            _ => block.Role != BlockRole.Layer,
        };
}
