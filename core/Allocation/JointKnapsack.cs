namespace Serverless.Core.Allocation;

/// <summary>
/// The knapsack with two budgets: bytes, and another cost. Where one of them binds alone, the solution is that of <see cref="Knapsack"/>
/// for it. Where both bind, one is given a price, found by bisection, and the other stays a budget (Lagrangian relaxation: Kellerer,
/// Pferschy and Pisinger 2004, chapter 9.2); both ways are tried, and the better one is taken.
/// </summary>
public static class JointKnapsack
{
    private const int Bisections = 24,
        Doublings = 60;

    /// <summary>Finds the choices of least loss within both budgets.</summary>
    /// <param name="items">The choices of each item; at least one each.</param>
    /// <param name="bytes">Bytes together at most.</param>
    /// <param name="cost">The other cost together at most, or null for any.</param>
    /// <param name="steps">Steps that what is to spare is cut into.</param>
    /// <returns>The choices, or null when none within both is found.</returns>
    public static KnapsackSolution? Least(
        IReadOnlyList<IReadOnlyList<KnapsackChoice>> items,
        long bytes,
        long? cost,
        int steps = Knapsack.Steps
    )
    {
        var first = Knapsack.Least(items, bytes, steps);
        if (cost is not { } most || first is null || first.Cost <= most)
            return first;
        var swapped = Mapped(items, Swapped);
        if (Knapsack.Least(swapped, most, steps) is not { } second)
            return null;
        var bound = Math.Max(first.LowerBound, second.LowerBound);
        if (second.Cost <= bytes)
            return Back(second) with { LowerBound = bound };
        var priced = Priced(items, bytes, most, steps);
        var other = Priced(swapped, most, bytes, steps) is { } s ? Back(s) : null;
        var best = new[] { priced, other }.OfType<KnapsackSolution>().MinBy(f => f.Loss);
        return best is null ? null : best with { LowerBound = Math.Min(bound, best.Loss) };
    }

    // The least price of the cost at which the solution within the bytes keeps it.
    private static KnapsackSolution? Priced(IReadOnlyList<IReadOnlyList<KnapsackChoice>> items, long bytes, long most, int steps)
    {
        KnapsackSolution? best = null;
        double low = 0,
            high = Math.Max(double.Epsilon, items.Sum(i => i.Max(c => c.Loss)) / Math.Max(1, items.Sum(i => (double)i.Max(c => c.Cost))));
        var doublings = 0;
        for (; doublings < Doublings && !Keeps(high); doublings++)
            (low, high) = (high, high * 4);
        for (var i = 0; i < Bisections && doublings < Doublings; i++)
        {
            var middle = (low + high) / 2;
            (low, high) = Keeps(middle) ? (low, middle) : (middle, high);
        }
        return best;

        bool Keeps(double price)
        {
            var found = Knapsack.Least(Mapped(items, c => c with { Loss = c.Loss + (price * c.Cost) }), bytes, steps)!;
            if (found.Cost > most)
                return false;
            var loss = found.Chosen.Select((c, i) => items[i][c].Loss).Sum();
            if (best is null || loss < best.Loss)
                best = found with { Loss = loss };
            return true;
        }
    }

    private static KnapsackChoice Swapped(KnapsackChoice choice) => new(choice.Cost, choice.Loss) { Cost = choice.Bytes };

    private static KnapsackSolution Back(KnapsackSolution swapped) => swapped with { Bytes = swapped.Cost, Cost = swapped.Bytes };

    private static List<List<KnapsackChoice>> Mapped(
        IReadOnlyList<IReadOnlyList<KnapsackChoice>> items,
        Func<KnapsackChoice, KnapsackChoice> to
    ) => [.. items.Select(i => i.Select(to).ToList())];
}
