using Serverless.Core.Evaluation;
using Xunit;

namespace Serverless.Core.Tests;

public class LatencyTests
{
    [Fact]
    public void The_ratio_is_that_of_the_two_figures_and_lies_within_its_spread()
    {
        // Pairs whose median ratio is 1 while the medians differ, as on a clock that ticks as long as a run takes.
        (double, double)[] pairs =
        [
            (0.0079, 0.0079),
            (0.0079, 0.0079),
            (0.0079, 0.0111),
            (0.0040, 0.0111),
            (0.0200, 0.0111),
            (0.0111, 0.0111),
            (0.0079, 0.0200),
        ];
        var latency = Latency.Of(pairs, 1);
        Assert.Equal(latency.AfterMs / latency.BeforeMs, latency.Ratio);
        Assert.InRange(latency.Ratio, latency.RatioLow, latency.RatioHigh);
        Assert.False(latency.Conclusive);
    }

    [Fact]
    public void A_loss_is_not_told_where_the_original_differs_from_itself_and_is_whole_where_numbers_are_lost()
    {
        var figures = new Core.Evaluation.ComparisonResult("data", 8, 0.3, 1, 0.5, null, null, 0, null);
        Assert.Equal(("top1Disagreement", 0.5), figures.Loss);
        Assert.Equal(("none", (double?)null), (figures with { RepeatError = 0.9 }).Loss);
        Assert.Equal(("nonFinite", 1.0), (figures with { NonFinite = 3 }).Loss);
    }

    [Fact]
    public void A_difference_beyond_the_noise_is_conclusive()
    {
        var random = new Random(1);
        var pairs = Enumerable.Range(0, 41).Select(_ => (1 + 0.1 * random.NextDouble(), 1.5 + 0.1 * random.NextDouble())).ToList();
        Assert.True(Latency.Of(pairs, 1) is { Conclusive: true, RatioLow: > 1.3, RatioHigh: < 1.7 });
    }
}
