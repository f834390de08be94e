using CsCheck;
using Serverless.Core.Allocation;
using Xunit;

namespace Serverless.Core.Tests;

public class KnapsackTests
{
    private static readonly Gen<(long Bytes, double Loss)[][]> Items = Gen.Select(Gen.Long[1, 400], Gen.Double[0, 10]).Array[1, 4].Array[
        1,
        6
    ];

    [Fact]
    public void Small_problems_are_solved_as_trying_everything_does() =>
        Gen.Select(Items, Gen.Double[0, 1])
            .Sample(
                (items, share) =>
                {
                    var choices = items
                        .Select(i => (IReadOnlyList<KnapsackChoice>)[.. i.Select(c => new KnapsackChoice(c.Bytes, c.Loss))])
                        .ToList();
                    var (low, high) = (choices.Sum(c => c.Min(x => x.Bytes)), choices.Sum(c => c.Max(x => x.Bytes)));
                    var budget = low + (long)(share * (high - low));
                    var best = All(choices).Where(s => s.Bytes <= budget).Min(s => s.Loss);
                    var found = Knapsack.Least(choices, budget)!;
                    // Fewer bytes than steps: nothing is rounded up.
                    return found.Bytes <= budget && Math.Abs(found.Loss - best) < 1e-9 && found.LowerBound <= best + 1e-9;
                }
            );

    [Fact]
    public void Large_problems_keep_the_budget_and_come_near_the_bound()
    {
        var random = new Random(5);
        var items = Enumerable
            .Range(0, 300)
            .Select(_ =>
            {
                var (size, weight) = (random.Next(1000, 5_000_000), Math.Pow(10, -4 * random.NextDouble()));
                return (IReadOnlyList<KnapsackChoice>)
                    [.. new[] { 2, 3, 4, 5, 6, 8 }.Select(b => new KnapsackChoice((long)size * b / 8, weight * Math.Pow(4, -b)))];
            })
            .ToList();
        var budget = items.Sum(i => i[2].Bytes);
        var found = Knapsack.Least(items, budget)!;
        Assert.True(found.Bytes <= budget);
        Assert.InRange(found.Loss, found.LowerBound, found.LowerBound * 1.05);
        Assert.True(found.Loss < 0.7 * items.Sum(i => i[2].Loss));
        var smallest = Knapsack.Smallest(items, found.Loss);
        Assert.InRange(smallest.Bytes, found.Bytes * 0.97, found.Bytes * 1.002);
        Assert.Null(Knapsack.Least(items, items.Sum(i => i[0].Bytes) - 1));
    }

    private static IEnumerable<(long Bytes, double Loss)> All(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items) =>
        items.Aggregate(
            (IEnumerable<(long Bytes, double Loss)>)[(0L, 0.0)],
            (sums, choices) => [.. sums.SelectMany(s => choices.Select(c => (s.Bytes + c.Bytes, s.Loss + c.Loss)))]
        );
}
