using Serverless.Core.Reports;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Values that an axis shows.</summary>
public class AxisTicksTests
{
    [Theory]
    [InlineData(0, 803, "0 200 400 600 800 1000")]
    [InlineData(0, 1000, "0 200 400 600 800 1000")]
    [InlineData(0, 0.0123, "0.000 0.005 0.010 0.015")]
    [InlineData(0, 3e-7, "0 1e-7 2e-7 3e-7")]
    [InlineData(0, 0, "0.0 0.2 0.4 0.6 0.8 1.0")]
    [InlineData(0.13, 0.27, "0.10 0.15 0.20 0.25 0.30")]
    [InlineData(0.2, 0.2, "0.2 0.4 0.6 0.8 1.0 1.2")]
    public void They_are_round_and_enclose_the_values(double least, double largest, string expected)
    {
        var ticks = AxisTicks.From(least, largest);
        Assert.Equal(expected, string.Join(' ', ticks.Select(t => AxisTicks.Text(t, ticks))));
        Assert.True(ticks[0] <= least && ticks[^1] >= largest * (1 - 1e-9));
    }
}
