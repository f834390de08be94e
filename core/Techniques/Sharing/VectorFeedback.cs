using Serverless.Core.Forms;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Chooses codewords one part of a row after the other, each for the weights as corrected for the errors before (van Baalen et al. 2024,
/// "GPTVQ", algorithm 1), by the second moments of the layer's input.
/// </summary>
internal static class VectorFeedback
{
    private const int MostDampings = 4;

    /// <summary>Encodes a layer.</summary>
    /// <param name="fit">Its codebooks.</param>
    /// <param name="work">The layer, with Gram matrices of its input.</param>
    /// <param name="options">How.</param>
    /// <param name="shard">Receives the result.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> RunAsync(
        VectorFit fit,
        LayerWork work,
        ProductOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (shape, input, sums) = (work.Shape, work.Input!, new VectorSums(fit));
        var perGroup = shape.Rows / input.GramGroups;
        long dead = 0;
        double error = 0;
        for (var g = 0; g < input.GramGroups; g++)
        {
            var gram = await input.ReadGramAsync!(g, cancellation);
            var hessian =
                Hessian.Of(
                    gram,
                    options.Order,
                    Math.Max(options.Damping, Hessian.Shrinkage(gram, input.GramRows)),
                    MostDampings,
                    cancellation,
                    options.Dimension
                ) ?? Hessian.Unknown(gram, cancellation);
            dead += hessian.Dead;
            for (long row = 0; row < perGroup; row += WeightTile.Rows(shape))
            {
                var rows = (int)Math.Min(WeightTile.Rows(shape), perGroup - row);
                var tile = await WeightTile.ReadAsync(work.Weight, shape, g * perGroup + row, rows, cancellation);
                var words = new VectorColumns(fit, tile, g * perGroup + row, rows, hessian, sums);
                error += ErrorCompensation.Run(tile, rows, hessian.Factor, hessian.Order, words, cancellation);
            }
        }
        var all = shape.Axis * input.GramGroups;
        return await sums.Coded.WriteAsync(shard, cancellation) with
        {
            OutputError = error / Math.Max(1, input.GramRows),
            Fallback = dead == 0 ? null : $"{dead} of {all} inputs were never active; their weights take the nearest codewords",
        };
    }
}
