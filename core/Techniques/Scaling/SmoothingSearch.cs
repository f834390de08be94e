using System.Numerics;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>
/// Finds the migration strength α of one value: the one whose relative error of the layers' outputs is least, with both roundings
/// taken as independent noise of step² / 12. Activations have one step Δ for 8 bits, weights one δᵢ a row for 8 bits, so that
/// 12 · error = Σᵢ (Δ² · Σⱼ sⱼ² · wᵢⱼ² + δᵢ² · Σⱼ mⱼ² / sⱼ²) / vᵢ, where vᵢ = Σⱼ wᵢⱼ² · mⱼ² is the power of the output at
/// mean magnitudes mⱼ = E|xⱼ|: mean squares would stand for the few tokens whose activations are huge. The weights are seen
/// twice: first all of them for their channels, then layer by layer for their rows.
/// </summary>
public sealed class SmoothingSearch
{
    private const int Steps = 20,
        ActivationSteps = 255,
        WeightSteps = 127;
    private readonly double[] low,
        high,
        squares,
        largest,
        energy;
    private readonly int channels;
    private readonly int width = (Steps + 2 + Vector<float>.Count - 1) / Vector<float>.Count * Vector<float>.Count;
    private readonly double[] errors = new double[Steps + 2];
    private double[][] candidates = [];
    private float[] scales = [];

    /// <summary>Starts with the activations.</summary>
    /// <param name="activations">What was observed of the value.</param>
    public SmoothingSearch(ChannelStatistics activations)
    {
        channels = activations.Channels;
        low = [.. activations.Min.Select(v => (double)v)];
        high = [.. activations.Max.Select(v => (double)v)];
        squares = [.. activations.Magnitudes.Select(v => Math.Pow(v / Math.Max(1, activations.Count), 2))];
        (largest, energy) = (new double[channels], new double[channels]);
    }

    /// <summary>What the channels are divided by at a strength, once all weights' channels were seen.</summary>
    public double[] Scales(double strength) => Smoothing.Scales([.. low.Select((v, c) => Math.Max(-v, high[c]))], largest, strength);

    /// <summary>The weights of a layer that takes the value.</summary>
    public Layer Of(ChannelConstant taker) => new(this, taker);

    /// <summary>
    /// The scales of least error, or null when those of no strength are less than <paramref name="worth"/> of the error without.
    /// </summary>
    /// <param name="worth">1 when scaling is free.</param>
    public double[]? Best(double worth)
    {
        if (candidates.Length == 0)
            return null;
        for (var k = 0; k < candidates.Length; k++)
        {
            var s = candidates[k];
            var range = Math.Max(0, high.Select((v, c) => v / s[c]).Max()) - Math.Min(0, low.Select((v, c) => v / s[c]).Min());
            errors[k] += Math.Pow(range / ActivationSteps, 2) * energy.Select((e, c) => e * s[c] * s[c]).Sum();
        }
        var best = Enumerable.Range(1, candidates.Length - 1).MinBy(k => errors[k]);
        return errors[best] < worth * errors[0] ? candidates[best] : null;
    }

    // The first candidate is to leave the value as it is.
    private void Prepare()
    {
        if (candidates.Length > 0)
            return;
        candidates = [Enumerable.Repeat(1.0, channels).ToArray(), .. Enumerable.Range(0, Steps + 1).Select(k => Scales((double)k / Steps))];
        scales = new float[channels * width];
        for (var c = 0; c < channels; c++)
        for (var k = 0; k < candidates.Length; k++)
            scales[c * width + k] = (float)candidates[k][c];
    }

    /// <summary>The weights of one layer: their channels are seen, then those of all others, then their rows, and they are added.</summary>
    public sealed class Layer
    {
        private readonly SmoothingSearch search;
        private readonly int axis;
        private readonly bool depthwise;
        private readonly ChannelLayout layout;
        private readonly double[] power;
        private float[] widest = [];

        internal Layer(SmoothingSearch search, ChannelConstant taker)
        {
            var dims = taker.Tensor.Dims;
            (this.search, axis, layout) = (search, taker.Axis, ChannelLayout.Of(taker.Tensor));
            // The rows of a depthwise convolution are its channels.
            depthwise = axis == 0 && dims.Count > 2 && dims[1] == 1;
            power = new double[dims[axis == 1 || depthwise ? 0 : 1]];
        }

        /// <summary>Notes what weights do to their channels.</summary>
        /// <param name="first">Index of the first of <paramref name="weights"/>.</param>
        /// <param name="weights">Some of them.</param>
        public void SeeChannels(long first, ReadOnlySpan<float> weights)
        {
            for (var i = 0; i < weights.Length; i++)
            {
                var (channel, row) = Place(first + i);
                search.largest[channel] = Math.Max(search.largest[channel], Math.Abs(weights[i]));
                power[row] += (double)weights[i] * weights[i] * search.squares[channel];
            }
        }

        /// <summary>Notes what weights do to their rows.</summary>
        /// <param name="first">Index of the first of <paramref name="weights"/>.</param>
        /// <param name="weights">Some of them.</param>
        public void SeeRows(long first, ReadOnlySpan<float> weights)
        {
            search.Prepare();
            var width = search.width;
            if (widest.Length == 0)
                widest = new float[power.Length * width];
            for (var i = 0; i < weights.Length; i++)
            {
                var (channel, row) = Place(first + i);
                if (power[row] > 0)
                    search.energy[channel] += (double)weights[i] * weights[i] / power[row];
                var w = new Vector<float>(MathF.Abs(weights[i]));
                var s = search.scales.AsSpan(channel * width, width);
                var most = widest.AsSpan(row * width, width);
                for (var k = 0; k < width; k += Vector<float>.Count)
                    Vector.Max(new Vector<float>(most[k..]), w * new Vector<float>(s[k..])).CopyTo(most[k..]);
            }
        }

        /// <summary>Adds the error of the weights' rounding.</summary>
        public void Add()
        {
            for (var k = 0; k < search.candidates.Length; k++)
            {
                var s = search.candidates[k];
                var moments = search.squares.Select((x, c) => layout.Inner * x / (s[c] * s[c])).ToArray();
                var all = moments.Sum();
                for (var row = 0; row < power.Length; row++)
                    if (power[row] > 0)
                        search.errors[k] +=
                            Math.Pow(widest[row * search.width + k] / WeightSteps, 2) * (depthwise ? moments[row] : all) / power[row];
            }
        }

        private (int Channel, int Row) Place(long element)
        {
            var (row, column) = layout.Place(element);
            return axis == 1 ? (column, row)
                : depthwise ? (row, row)
                : (row, column);
        }
    }
}
