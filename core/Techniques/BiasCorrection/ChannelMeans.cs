using System.Numerics.Tensors;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>Sums of the channels, the second axis, over samples.</summary>
internal sealed class ChannelMeans(double[] sums)
{
    private long count;

    /// <summary>Adds a value's channels to those seen under its name; names may be added on several threads.</summary>
    public static void Add(Dictionary<string, ChannelMeans> means, string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        ChannelMeans? mean;
        lock (means)
            if (!means.TryGetValue(name, out mean))
                means[name] = mean = new ChannelMeans(new double[shape.Length > 1 ? (int)shape[1] : 0]);
        mean.Add(values, shape);
    }

    public double[] Sums => sums;

    public double Mean(int channel) => sums[channel] / count;

    public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        if (shape.Length < 2 || shape[1] != sums.Length || values.Length == 0)
            return;
        var inner = values.Length / (int)(shape[0] * shape[1]);
        for (var i = 0; i < values.Length; i += inner)
            sums[i / inner % sums.Length] += TensorPrimitives.Sum(values.Slice(i, inner));
        count += shape[0] * inner;
    }
}
