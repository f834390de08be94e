using Serverless.Core.Evaluation;
using Serverless.Core.Runs;
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

    [Theory]
    [InlineData(0.6, true)]
    [InlineData(0.629, true)]
    [InlineData(0.631, false)]
    [InlineData(null, false)]
    public void A_budget_of_latency_is_met_within_five_percent_of_what_was_measured(double? ratio, bool met)
    {
        var latency = ratio is { } r ? new Latency(10, 10 * r, r, 0.5, 0.9, 1) : null;
        var figures = new Core.Evaluation.ComparisonResult("data", 8, 1, 0, 1, null, null, 0, latency);
        var attempt = new Attempt(0, new Reassembled(1, 1, 1), new Evaluated(figures, 0));
        var budget = new Budget(null, null, 0) { MaxLatencyRatio = 0.6 };
        Assert.Equal(met, budget.Meets(new Inspected(1, 1, [], budget), attempt));
        Assert.True((budget with { MaxLatencyRatio = null }).Meets(new Inspected(1, 1, [], budget), attempt));
    }

    [Fact]
    public void A_difference_beyond_the_noise_is_conclusive()
    {
        var random = new Random(1);
        var pairs = Enumerable.Range(0, 41).Select(_ => (1 + 0.1 * random.NextDouble(), 1.5 + 0.1 * random.NextDouble())).ToList();
        Assert.True(Latency.Of(pairs, 1) is { Conclusive: true, RatioLow: > 1.3, RatioHigh: < 1.7 });
    }
}
