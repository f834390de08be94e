namespace Serverless.Core.Techniques.Scaling;

/// <summary>
/// Cross-layer equalization, without data (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias
/// Correction", section 4.1): between two layers with nothing but a Relu or a pool between them each channel is scaled by
/// sᵢ = √(r⁽¹⁾ᵢ r⁽²⁾ᵢ) / r⁽²⁾ᵢ (eq. 11), so that it is as wide in the first layer's weights as in the second's; over all
/// pairs until nothing changes. The model computes what it did; ranges of a tensor fit its channels better.
/// </summary>
public static class Equalization
{
    private const double Settled = 1e-3,
        Most = 1e4;

    /// <summary>Scales of all pairs.</summary>
    /// <param name="pairs">The values between two layers; others are passed over.</param>
    /// <param name="widest">Largest magnitude of each index pair (row, column) of the first two axes of a weight.</param>
    /// <param name="options">How long.</param>
    /// <returns>For each pair, what its value's channels are divided by; null for those passed over.</returns>
    public static IReadOnlyList<double[]?> Solve(
        IReadOnlyList<ChannelScaling> pairs,
        Func<ChannelConstant, float[,]> widest,
        EqualizationOptions options
    )
    {
        var scales = pairs.Select(p => p.FromLayer ? Enumerable.Repeat(1.0, p.Channels).ToArray() : null).ToArray();
        // What each weight's axes are multiplied by so far.
        var factors = new Dictionary<(object Tensor, int Axis), double[]>();
        for (var round = 0; round < options.Rounds; round++)
        {
            double change = 0;
            for (var p = 0; p < pairs.Count; p++)
            {
                if (scales[p] is not { } scale)
                    continue;
                var (first, second) = (Ranges([pairs[p].Makers[0]]), Ranges(pairs[p].Takers));
                for (var c = 0; c < scale.Length; c++)
                {
                    if (first[c] == 0 || second[c] == 0)
                        continue;
                    var s = Math.Sqrt(first[c] / second[c]);
                    // NaN is no scale either: one weight would make all of its channel undefined.
                    if (scale[c] * s is not (>= 1 / Most and <= Most))
                        continue;
                    scale[c] *= s;
                    Factors(pairs[p].Makers[0])[c] /= s;
                    foreach (var taker in pairs[p].Takers)
                        Factors(taker)[c] *= s;
                    change = Math.Max(change, Math.Abs(Math.Log(s)));
                }
            }
            if (change < Settled)
                break;
        }
        return scales;

        double[] Factors(ChannelConstant weight)
        {
            if (!factors.TryGetValue((weight.Tensor, weight.Axis), out var f))
                factors[(weight.Tensor, weight.Axis)] = f = Enumerable.Repeat(1.0, (int)weight.Tensor.Dims[weight.Axis]).ToArray();
            return f;
        }

        double[] Ranges(IReadOnlyList<ChannelConstant> weights)
        {
            var ranges = new double[weights[0].Tensor.Dims[weights[0].Axis]];
            foreach (var w in weights)
            {
                var (most, rows, columns) = (widest(w), Factors(w with { Axis = 0 }), Factors(w with { Axis = 1 }));
                for (var r = 0; r < most.GetLength(0); r++)
                for (var c = 0; c < most.GetLength(1); c++)
                {
                    var at = w.Axis == 0 ? r : c;
                    ranges[at] = Math.Max(ranges[at], most[r, c] * rows[r] * columns[c]);
                }
            }
            return ranges;
        }
    }
}
