using Serverless.Core.Techniques.Pruning.Structured;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>What a group costs the model, from what its order says and what was measured.</summary>
public class MeasuredLadderTests
{
    private static readonly int[] Levels = [0, 8, 16, 24, 32, 40, 48];

    // Squares of the units that go.
    private static readonly double[] Cost = [.. Enumerable.Range(0, 49).Select(k => (double)k * k)];

    [Fact]
    public void Without_a_measurement_it_is_the_orders_cost() =>
        Assert.Equal(Levels.Select(l => Cost[l]), new MeasuredLadder(Levels, Cost).Predict().Loss);

    [Fact]
    public void One_measurement_gives_the_scale()
    {
        var ladder = new MeasuredLadder(Levels, Cost);
        ladder.Add(16, 0.5);
        Assert.All(ladder.Predict().Loss.Zip(Levels), p => Assert.Equal(0.5 * p.Second * p.Second / 256, p.First, 1e-12));
    }

    [Fact]
    public void Measurements_hold_and_scales_lie_between_them()
    {
        var ladder = new MeasuredLadder(Levels, Cost);
        ladder.Add(40, 16);
        ladder.Add(16, 0.256);
        // Scales 0.001 and 0.01: at 24 a third of the way.
        Assert.All(
            ladder.Predict().Loss.Zip([0, 0.064, 0.256, 576 * 0.004, 1024 * 0.007, 16, 2304 * 0.01]),
            p => Assert.Equal(p.Second, p.First, 1e-9)
        );
    }

    [Fact]
    public void Predictions_never_fall()
    {
        var ladder = new MeasuredLadder(Levels, Cost);
        ladder.Add(16, 0.9);
        ladder.Add(40, 0.2);
        var loss = ladder.Predict().Loss;
        Assert.Equal(loss.Order(), loss);
        Assert.Equal(0.9, loss[2]);
    }

    [Fact]
    public void An_order_that_says_nothing_counts_units()
    {
        var ladder = new MeasuredLadder(Levels, new double[49]);
        ladder.Add(16, 0.4);
        Assert.All(ladder.Predict().Loss.Zip([0, 0.2, 0.4, 0.6, 0.8, 1, 1.2]), p => Assert.Equal(p.Second, p.First, 1e-9));
    }

    [Theory]
    [InlineData(20, false)]
    [InlineData(21, true)]
    public void A_quarter_beyond_what_was_measured_is_too_far(int units, bool beyond)
    {
        var ladder = new MeasuredLadder(Levels, Cost);
        Assert.False(ladder.IsBeyond(units));
        ladder.Add(16, 0.5);
        Assert.Equal(beyond, ladder.IsBeyond(units));
    }
}
