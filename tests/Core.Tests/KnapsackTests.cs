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

    [Fact]
    public void Two_budgets_are_kept_at_once() =>
        Gen.Select(
                Gen.Select(Gen.Long[1, 400], Gen.Long[1, 400], Gen.Double[0, 10]).Array[1, 4].Array[1, 6],
                Gen.Double[0, 1],
                Gen.Double[0, 1]
            )
            .Sample(
                (items, share, other) =>
                {
                    var choices = items
                        .Select(i =>
                            (IReadOnlyList<KnapsackChoice>)[.. i.Select(c => new KnapsackChoice(c.Item1, c.Item3) { Cost = c.Item2 })]
                        )
                        .ToList();
                    long Between(Func<KnapsackChoice, long> of, double at)
                    {
                        var (low, high) = (choices.Sum(c => c.Min(of)), choices.Sum(c => c.Max(of)));
                        return low + (long)(at * (high - low));
                    }
                    var (bytes, cost) = (Between(c => c.Bytes, share), Between(c => c.Cost, other));
                    var best = Joint(choices).Where(s => s.Bytes <= bytes && s.Cost <= cost).Select(s => (double?)s.Loss).Min();
                    var found = JointKnapsack.Least(choices, bytes, cost);
                    return found is null
                        ? best is null || share < 1 || other < 1
                        : found.Bytes <= bytes && found.Cost <= cost && found.Loss >= best - 1e-9 && found.LowerBound <= best + 1e-9;
                }
            );

    [Fact]
    public void Two_budgets_that_bind_come_near_the_bound()
    {
        var random = new Random(7);
        var items = Enumerable
            .Range(0, 100)
            .Select(_ =>
            {
                var (size, positions, weight) = (
                    random.Next(1000, 1_000_000),
                    random.Next(1, 1000),
                    Math.Pow(10, -3 * random.NextDouble())
                );
                // Some settings save bytes, others multiply-accumulates.
                return (IReadOnlyList<KnapsackChoice>)
                    [
                        .. new[] { 2, 4, 8 }.SelectMany(b =>
                            new[] { 0.25, 0.5, 0.75, 1 }.Select(r => new KnapsackChoice(
                                (long)(size * r * b / 8),
                                weight * (Math.Pow(4, -b) + Math.Pow(1 - r, 2))
                            )
                            {
                                Cost = (long)(size * r) * positions,
                            })
                        ),
                    ];
            })
            .ToList();
        var (bytes, cost) = (items.Sum(i => i[^1].Bytes) / 3, items.Sum(i => i[^1].Cost) * 6 / 10);
        var found = JointKnapsack.Least(items, bytes, cost, 2000)!;
        Assert.True(found.Bytes <= bytes && found.Cost <= cost);
        // Alone, neither budget keeps the other.
        Assert.True(Knapsack.Least(items, bytes)!.Cost > cost);
        var uniform = items.Sum(i => i.Where(c => c.Bytes * 3 <= i[^1].Bytes && c.Cost * 10 <= i[^1].Cost * 6).Min(c => c.Loss));
        Assert.True(found.Loss < 0.8 * uniform, $"{found.Loss} {uniform}");
    }

    private static IEnumerable<(long Bytes, long Cost, double Loss)> Joint(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items) =>
        items.Aggregate(
            (IEnumerable<(long Bytes, long Cost, double Loss)>)[(0L, 0L, 0.0)],
            (sums, choices) => [.. sums.SelectMany(s => choices.Select(c => (s.Bytes + c.Bytes, s.Cost + c.Cost, s.Loss + c.Loss)))]
        );

    private static IEnumerable<(long Bytes, double Loss)> All(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items) =>
        items.Aggregate(
            (IEnumerable<(long Bytes, double Loss)>)[(0L, 0.0)],
            (sums, choices) => [.. sums.SelectMany(s => choices.Select(c => (s.Bytes + c.Bytes, s.Loss + c.Loss)))]
        );
}
