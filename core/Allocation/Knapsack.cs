namespace Serverless.Core.Allocation;

/// <summary>One way to store an item.</summary>
/// <param name="Bytes">What it takes.</param>
/// <param name="Loss">What it costs.</param>
public readonly record struct KnapsackChoice(long Bytes, double Loss)
{
    /// <summary>Another cost, as multiply-accumulates are.</summary>
    public long Cost { get; init; }
}

/// <summary>A choice for each item.</summary>
/// <param name="Chosen">Index of each item's choice.</param>
/// <param name="Bytes">Bytes together.</param>
/// <param name="Loss">Loss together.</param>
/// <param name="LowerBound">No choice within the budget loses less than this.</param>
public sealed record KnapsackSolution(int[] Chosen, long Bytes, double Loss, double LowerBound)
{
    /// <summary>The other cost together.</summary>
    public long Cost { get; init; }
}

/// <summary>
/// The multiple-choice knapsack: one choice an item, least loss within a budget of bytes (Kellerer, Pferschy and Pisinger
/// 2004, "Knapsack Problems", chapter 11). By dynamic programming over bytes in steps of 1/20,000 of what the choices
/// span, each rounded up: the solution keeps the budget, and none within the budget less one step an item is better. The
/// lower bound is that of the Lagrangian relaxation (section 11.2), so each solution also comes with its own gap.
/// </summary>
public static class Knapsack
{
    private const int Bisections = 60;

    /// <summary>Steps that the bytes to spare are cut into, unless said.</summary>
    public const int Steps = 20_000;

    /// <summary>Finds the choices of least loss within a budget.</summary>
    /// <param name="items">The choices of each item; at least one each.</param>
    /// <param name="budget">Bytes together at most.</param>
    /// <param name="steps">Steps that the bytes to spare are cut into.</param>
    /// <returns>The choices, or null when even the smallest exceed the budget.</returns>
    public static KnapsackSolution? Least(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, long budget, int steps = Steps)
    {
        var smallest = items.Sum(c => c.Min(x => x.Bytes));
        if (smallest > budget)
            return null;
        var spare = Math.Min(budget, items.Sum(c => c.Max(x => x.Bytes))) - smallest;
        var step = Math.Max(1, (spare + steps - 1) / steps);
        var width = (int)(spare / step) + 1;
        var (loss, next) = (new double[width], new double[width]);
        var taken = items.Select(_ => new byte[width]).ToArray();
        for (var i = 0; i < items.Count; i++)
        {
            var least = items[i].Min(c => c.Bytes);
            Array.Fill(next, double.PositiveInfinity);
            for (var c = 0; c < items[i].Count; c++)
            {
                var cost = (int)Math.Min(width, (items[i][c].Bytes - least + step - 1) / step);
                for (var w = cost; w < width; w++)
                {
                    var total = loss[w - cost] + items[i][c].Loss;
                    if (total < next[w])
                        (next[w], taken[i][w]) = (total, (byte)c);
                }
            }
            (loss, next) = (next, loss);
        }
        var chosen = new int[items.Count];
        var at = width - 1;
        for (var i = items.Count - 1; i >= 0; i--)
        {
            chosen[i] = taken[i][at];
            at -= (int)((items[i][chosen[i]].Bytes - items[i].Min(c => c.Bytes) + step - 1) / step);
        }
        return Solution(items, chosen, Bound(items, budget));
    }

    /// <summary>Finds the fewest bytes that lose no more than a limit.</summary>
    /// <param name="items">The choices of each item; at least one each.</param>
    /// <param name="limit">Loss together at most.</param>
    /// <param name="cost">The other cost together at most, which the cheapest choices keep; null for any.</param>
    /// <returns>The choices, or those of least loss when the limit cannot be kept.</returns>
    public static KnapsackSolution Smallest(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, double limit, long? cost = null)
    {
        var (low, high) = (items.Sum(c => c.Min(x => x.Bytes)), items.Sum(c => c.Max(x => x.Bytes)));
        var best = JointKnapsack.Least(items, high, cost)!;
        while (high - low > Math.Max(1, high / 2000))
        {
            var middle = low + (high - low) / 2;
            var solution = JointKnapsack.Least(items, middle, cost);
            if (solution is not null && solution.Loss <= limit)
                (best, high) = (solution, middle);
            else
                low = middle + 1;
        }
        return best;
    }

    /// <summary>Solutions from the smallest to the one of least loss, along the Lagrangian relaxation.</summary>
    public static IReadOnlyList<KnapsackSolution> Curve(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, int points)
    {
        var (low, high) = (items.Sum(c => c.Min(x => x.Bytes)), items.Sum(c => c.Max(x => x.Bytes)));
        return [.. Enumerable.Range(0, points).Select(i => Least(items, low + (high - low) * i / Math.Max(1, points - 1))!)];
    }

    // max over λ ≥ 0 of Σ min (loss + λ bytes) − λ · budget: concave in λ.
    private static double Bound(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, long budget)
    {
        double low = 0,
            high = 1;
        while (Relaxed(items, high).Bytes > budget && high < 1e30)
            high *= 4;
        for (var i = 0; i < Bisections; i++)
        {
            var middle = (low + high) / 2;
            if (Relaxed(items, middle).Bytes > budget)
                low = middle;
            else
                high = middle;
        }
        return Math.Max(Value(low), Value(high));

        double Value(double lambda)
        {
            var s = Relaxed(items, lambda);
            return s.Loss + lambda * (s.Bytes - budget);
        }
    }

    private static (double Bytes, double Loss) Relaxed(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, double lambda)
    {
        double bytes = 0,
            loss = 0;
        foreach (var choices in items)
        {
            var best = choices.MinBy(c => c.Loss + lambda * c.Bytes);
            bytes += best.Bytes;
            loss += best.Loss;
        }
        return (bytes, loss);
    }

    private static KnapsackSolution Solution(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, int[] chosen, double bound)
    {
        var picked = chosen.Select((c, i) => items[i][c]).ToList();
        var loss = picked.Sum(c => c.Loss);
        return new KnapsackSolution(chosen, picked.Sum(c => c.Bytes), loss, Math.Min(bound, loss)) { Cost = picked.Sum(c => c.Cost) };
    }
}
