using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Chooses codewords one part of a row after the other, each for the weights as corrected for the errors before (van Baalen et al. 2024,
/// "GPTVQ", algorithm 1), by the second moments of the layer's input. Corrected weights reach further than given ones: codebooks are found
/// anew of what was asked of them, as the paper finds those of a group when it comes to it.
/// </summary>
internal static class VectorFeedback
{
    /// <summary>Encodes a layer.</summary>
    /// <param name="fit">Its codebooks.</param>
    /// <param name="work">The layer, with Gram matrices of its input.</param>
    /// <param name="factors">Those matrices, factored.</param>
    /// <param name="rounds">How often codebooks are found anew, of the corrected weights; the best codes are kept.</param>
    /// <param name="shard">Receives the result.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> RunAsync(
        VectorFit fit,
        LayerWork work,
        InputFactors factors,
        int rounds,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (best, least, dead) = ((CodedWeights?)null, double.PositiveInfinity, 0L);
        for (var round = 0; round <= rounds; round++)
        {
            var (sums, sample) = (new VectorSums(fit), round == rounds ? null : new VectorSample(fit.Layout, weighted: true));
            (var error, dead) = await PassAsync(fit, work, factors, sums, sample, cancellation);
            if (best is null || error < least)
                (best, least) = (sums.Coded, error);
            if (sample is not null)
                fit = new VectorFit(work, fit.Layout, fit.Masses, fit.Scales, sample.Books(cancellation));
        }
        var all = work.Shape.Axis * factors.Groups;
        return await best!.WriteAsync(shard, cancellation) with
        {
            OutputError = least / Math.Max(1, work.Input!.GramRows),
            Fallback = dead == 0 ? null : $"{dead} of {all} inputs were never active; their weights take the nearest codewords",
        };
    }

    // What the outputs lose, and how many inputs were never active.
    private static async Task<(double Error, long Dead)> PassAsync(
        VectorFit fit,
        LayerWork work,
        InputFactors factors,
        VectorSums sums,
        VectorSample? sample,
        CancellationToken cancellation
    )
    {
        var shape = work.Shape;
        var perGroup = shape.Rows / factors.Groups;
        var (error, dead) = (0.0, 0L);
        for (var g = 0; g < factors.Groups; g++)
        {
            var hessian = await factors.OfAsync(g, cancellation);
            dead += hessian.Dead;
            for (long row = 0; row < perGroup; row += WeightTile.Rows(shape))
            {
                var rows = (int)Math.Min(WeightTile.Rows(shape), perGroup - row);
                var tile = await WeightTile.ReadAsync(work.Weight, shape, g * perGroup + row, rows, cancellation);
                var words = new VectorColumns(fit, tile, g * perGroup + row, rows, hessian, sums, sample);
                error += ErrorCompensation.Run(tile, rows, hessian.Factor, hessian.Order, words, cancellation);
            }
        }
        return (error, dead);
    }
}
