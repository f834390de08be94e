namespace Serverless.Core.Techniques.Pruning;

/// <summary>
/// Sparsities of rounds by Zhu and Gupta 2017, "To prune, or not to prune", eq. 1, from none: s·(1 − (1 − t/N)³) after round t of N.
/// </summary>
internal static class CubicSchedule
{
    /// <summary>The rounds; N:M has as many as have another N.</summary>
    /// <param name="sparsity">After the last.</param>
    /// <param name="pattern">The pattern.</param>
    /// <param name="rounds">How many.</param>
    public static IEnumerable<(double? Sparsity, string Pattern)> Of(double sparsity, SparsityPattern pattern, int rounds)
    {
        var shares = Enumerable.Range(1, rounds).Select(t => 1 - Math.Pow(1 - (double)t / rounds, 3));
        if (!pattern.IsGroups)
            return shares.Select(s => ((double?)Math.Round(s * sparsity, 6), pattern.ToString()));
        return shares
            .Select(s => pattern with { Keep = pattern.Of - (int)Math.Round(s * (pattern.Of - pattern.Keep)) })
            .Where(p => p.Keep < p.Of)
            .Distinct()
            .Select(p => ((double?)null, p.ToString()));
    }
}
