using Serverless.Core.Forms;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>What pruning by a layer's input knows of it, and what is done in its place where that is nothing.</summary>
internal static class ObservedInput
{
    /// <summary>Why layers cannot be compared with one another, or null.</summary>
    public static string? WhyInvalid(PruneScope scope) =>
        scope == PruneScope.Global
            ? "'scope: global' goes with 'method: magnitude': scores of layers with different inputs do not compare; 'scope: measured' does"
            : null;

    /// <summary>Prunes by magnitude instead.</summary>
    public static async Task<EncodedLayer> ByMagnitudeAsync(
        LayerWork work,
        PruneOptions options,
        string why,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var same = new MagnitudeOptions { Sparsity = options.Sparsity, Pattern = options.Pattern };
        return await new Magnitude().CompressAsync(work, same, shard, cancellation) with { Fallback = $"pruned by magnitude: {why}" };
    }

    /// <summary>‖x‖² of each input of each group of channels: as they were observed, or the diagonals of XᵀX.</summary>
    public static async Task<double[][]> SquaresAsync(InputStatistics input, CancellationToken cancellation)
    {
        if (input.Squares is { } known)
            return known;
        var squares = new double[input.GramGroups][];
        for (var g = 0; g < squares.Length; g++)
        {
            var gram = await input.ReadGramAsync!(g, cancellation);
            squares[g] = [.. Enumerable.Range(0, input.GramAxis).Select(k => gram[(long)k * input.GramAxis + k])];
        }
        return squares;
    }
}
