namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// What a group is predicted to cost the model at each number of units that go: the order's own cost, scaled to what was measured. Between
/// two measurements the scale lies between theirs.
/// </summary>
/// <param name="levels">Numbers of units that may go, ascending; the first is 0.</param>
/// <param name="cost">What the first k units cost by the order.</param>
internal sealed class MeasuredLadder(IReadOnlyList<int> levels, IReadOnlyList<double> cost)
{
    // A prediction is good so far beyond the last measurement.
    private const double Reach = 1.25;
    private readonly SortedList<int, double> measured = [];

    /// <summary>Of a group that stays whole.</summary>
    public static MeasuredLadder None { get; } = new([0], [0]);

    /// <summary>The most units that may go.</summary>
    public int Most => levels[^1];

    /// <summary>The level nearest to a number of units; 0 where none may go.</summary>
    public int Nearest(double units) => levels.Skip(1).DefaultIfEmpty().MinBy(l => Math.Abs(l - units));

    /// <summary>Whether a number of units is too far beyond what was measured for its prediction to be used.</summary>
    public bool IsBeyond(int units) => measured.Count > 0 && units > Reach * measured.GetKeyAtIndex(measured.Count - 1);

    /// <summary>Adds a measurement.</summary>
    /// <param name="units">Units that go, more than 0.</param>
    /// <param name="loss">The squared relative error of the model's outputs.</param>
    public void Add(int units, double loss) => measured[units] = loss;

    /// <summary>The predictions; without a measurement the order's own cost. They never fall.</summary>
    public GroupLadder Predict()
    {
        var losses = new double[levels.Count];
        for (var l = 1; l < losses.Length; l++)
            losses[l] = Math.Max(losses[l - 1], LossOf(levels[l]));
        return new GroupLadder(levels, losses);
    }

    private double LossOf(int units)
    {
        if (measured.Count == 0)
            return cost[units];
        if (measured.TryGetValue(units, out var known))
            return known;
        var above = 0;
        while (above < measured.Count && measured.GetKeyAtIndex(above) < units)
            above++;
        var (from, to) = (Math.Max(0, above - 1), Math.Min(above, measured.Count - 1));
        var (a, b) = (measured.GetKeyAtIndex(from), measured.GetKeyAtIndex(to));
        var share = a == b ? 0 : (units - a) / (double)(b - a);
        return Of(units) * ((1 - share) * Scale(a) + share * Scale(b));
    }

    private double Scale(int units) => measured[units] / Of(units);

    // An order that says nothing of what units cost: all the same.
    private double Of(int units) => cost[units] > 0 ? cost[units] : units;
}
