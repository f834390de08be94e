using Serverless.Core.Evaluation;
using Xunit;

namespace Serverless.Core.Tests;

public class LatencyTests
{
    [Fact]
    public void The_ratio_is_that_of_the_two_figures_and_lies_within_its_spread()
    {
        // Pairs whose median ratio is 1 while the medians differ, as on a clock that ticks as long as a run takes.
        (double, double)[] pairs = [(0.0079, 0.0079), (0.0079, 0.0079), (0.0079, 0.0111), (0.0040, 0.0111), (0.0200, 0.0111), (0.0111, 0.0111), (0.0079, 0.0200)];
        var latency = Latency.Of(pairs, 1);
        Assert.Equal(latency.AfterMs / latency.BeforeMs, latency.Ratio);
        Assert.InRange(latency.Ratio, latency.RatioLow, latency.RatioHigh);
        Assert.False(latency.Conclusive);
    }

    [Fact]
    public void A_difference_beyond_the_noise_is_conclusive()
    {
        var random = new Random(1);
        var pairs = Enumerable.Range(0, 41).Select(_ => (1 + 0.1 * random.NextDouble(), 1.5 + 0.1 * random.NextDouble())).ToList();
        Assert.True(Latency.Of(pairs, 1) is { Conclusive: true, RatioLow: > 1.3, RatioHigh: < 1.7 });
    }
}
