namespace Serverless.Core.Model;

/// <summary>How the channels of a value are distributed.</summary>
/// <param name="Mean">Mean of each.</param>
/// <param name="Deviation">Standard deviation of each.</param>
public sealed record ChannelDistribution(double[] Mean, double[] Deviation)
{
    /// <summary>Of x·factor + offset.</summary>
    public ChannelDistribution Affine(IReadOnlyList<float> factor, IReadOnlyList<float> offset) =>
        new([.. Mean.Select((m, c) => m * factor[c] + offset[c])], [.. Deviation.Select((d, c) => d * Math.Abs(factor[c]))]);

    /// <summary>Of some of the channels.</summary>
    public ChannelDistribution Of(IReadOnlyList<int> channels) =>
        new([.. channels.Select(c => Mean[c])], [.. channels.Select(c => Deviation[c])]);

    /// <summary>Divided channel by channel.</summary>
    public ChannelDistribution DividedBy(IReadOnlyList<double> by) =>
        new([.. Mean.Select((m, c) => m / by[c])], [.. Deviation.Select((d, c) => d / by[c])]);
}
