using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>One codebook for all layers, of histograms of their weights: zero and the clusters of the others.</summary>
internal static class GlobalCodebook
{
    /// <summary>Counts a layer's weights by the upper 16 bits of each as a float.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="options">Whether rows are scaled.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        LayerShape shape,
        CodebookOptions options,
        CancellationToken cancellation
    )
    {
        var counts = new long[1 << 16];
        try
        {
            var scales = options.Scale == RowScale.Row ? (await RowScales.OfAsync(weight, shape, cancellation)).Values : null;
            await weight.EachAsync(
                (first, part) =>
                {
                    _ = BlockScale.Bounds(part);
                    for (var i = 0; i < part.Length; i++)
                        counts[BitConverter.SingleToUInt32Bits(scales is null ? part[i] : part[i] / scales[shape.Row(first + i)]) >> 16]++;
                },
                cancellation
            );
        }
        catch (LayerRefusedException)
        {
            // It is refused again, and the report says why, when the layer is compressed.
            return new WeightSurvey(0, new Dictionary<int, long>());
        }
        var held = counts.Select((c, i) => (Count: c, Bits: i)).Where(p => p.Count > 0).ToDictionary(p => p.Bits, p => p.Count);
        return new WeightSurvey(weight.Elements, new Dictionary<int, long>()) { Values = held };
    }

    /// <summary>The codebook: zero first.</summary>
    /// <param name="surveys">Histograms of the layers.</param>
    /// <param name="options">Bits, and where k-means begins.</param>
    public static float[] Of(IEnumerable<WeightSurvey> surveys, CodebookOptions options)
    {
        var tally = new ValueTally();
        foreach (var (bits, count) in surveys.SelectMany(s => s.Values ?? new Dictionary<int, long>()).OrderBy(v => v.Key))
            // The middle of those with the same upper bits.
            if (BitConverter.UInt32BitsToSingle((uint)bits << 16 | 0x8000) is var value && bits << 17 != 0)
                tally.Add(value, count);
        var centers = LineClusters.Find(tally.ToPoints(), (1 << options.Bits) - 1, options.Start, CancellationToken.None);
        return [0, .. centers.Select(c => (float)c)];
    }
}
