namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>The order in which units of a group go.</summary>
/// <param name="Units">The units, the least important first.</param>
/// <param name="Cost">
/// What the first k cost, k from 0 on: the sum over the layers that take the units of ‖error‖² / ‖outputs‖², or another measure that grows
/// with k.
/// </param>
public sealed record UnitOrder(IReadOnlyList<int> Units, IReadOnlyList<double> Cost)
{
    /// <summary>By a score of each unit alone.</summary>
    /// <param name="scores">The scores: the cost of a unit.</param>
    public static UnitOrder ByScore(IReadOnlyList<double> scores)
    {
        int[] order = [.. Enumerable.Range(0, scores.Count).OrderBy(u => scores[u]).ThenBy(u => u)];
        var cost = new double[scores.Count + 1];
        for (var k = 0; k < order.Length; k++)
            cost[k + 1] = cost[k] + Math.Max(0, scores[order[k]]);
        return new UnitOrder(order, cost);
    }
}
