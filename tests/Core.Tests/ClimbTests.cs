using Serverless.Core.Evaluation;
using Serverless.Core.Runs;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>The search for the fewest moves to gentler settings, on layers of known sizes.</summary>
public class ClimbTests
{
    private const int Layers = 64;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(13)]
    [InlineData(28)]
    [InlineData(29)]
    [InlineData(60)]
    [InlineData(64)]
    public void It_ends_at_the_fewest_moves_that_hold(int needed)
    {
        var (fewest, attempts) = Search(_ => 1000, needed);
        Assert.Equal(needed, fewest);
        Assert.True(attempts <= Replan.MostAttempts, $"{attempts}");
    }

    // One layer holds most of the bytes: the attempt in front of it is the first that is tried on the way back.
    [Fact]
    public void It_goes_back_by_bytes()
    {
        var (fewest, attempts) = Search(i => i == 63 ? 1_000_000 : 1, 60);
        Assert.InRange(fewest, 60, 63);
        Assert.True(attempts <= 7, $"{attempts}");
    }

    [Fact]
    public void It_stops_where_no_layer_can_move() => Assert.Equal(0, Climb.From(Made(0, 0)).Next([]));

    private static (int Fewest, int Attempts) Search(Func<int, long> grows, int needed)
    {
        const long Start = 100_000;
        var (climb, moved, fewest) = (Climb.From(Made(0, Start)), new Dictionary<int, int> { [0] = 0 }, int.MaxValue);
        for (var attempt = 1; ; attempt++)
        {
            var from = moved[climb.Base];
            var sizes = Enumerable.Range(from, Layers - from).Take(climb.Most(Layers)).Select(i => Size(i + 1)).ToList();
            var moves = climb.Next(sizes);
            if (moves == 0)
                return (fewest, attempt);
            moved[attempt] = from + moves;
            var holds = moved[attempt] >= needed;
            if (holds)
                fewest = Math.Min(fewest, moved[attempt]);
            climb = climb.After(Made(attempt, Size(moved[attempt])), moves, holds);
        }

        long Size(int count) => Start + Enumerable.Range(0, count).Sum(grows);
    }

    private static Attempt Made(int number, long bytes) =>
        new(number, new Reassembled(bytes, 0, 0), new Evaluated(new ComparisonResult("none", 0, null, null, null, null, null, 0, null), 0));
}
