namespace Serverless.Core.Techniques.Pruning;

/// <summary>Sparsities from which each layer's is chosen.</summary>
internal static class SparsityLadder
{
    // Of the density asked for, the strongest first.
    private static readonly double[] Densities = [0.3, 0.5, 0.7, 0.85, 1, 1.15, 1.3, 1.6];

    /// <summary>The densities around one, and all weights.</summary>
    /// <param name="sparsity">The sparsity asked for.</param>
    /// <param name="of">The setting of a sparsity.</param>
    public static Ladder Around(double sparsity, Func<double, Setting> of)
    {
        var asked = 1 - sparsity;
        var rungs = Densities.Select(d => d * asked).Where(d => d is >= 0.01 and < 0.99).Append(1);
        return Ladder.Open(rungs.Select(d => new Rung(of(1 - d), d)), asked);
    }

    /// <summary>The N:M of a group, and all weights.</summary>
    /// <param name="pattern">The one asked for.</param>
    /// <param name="of">The setting of a pattern.</param>
    /// <param name="whole">The setting that keeps all weights.</param>
    public static Ladder Around(SparsityPattern pattern, Func<SparsityPattern, Setting> of, Setting whole)
    {
        const int Most = 8;
        var step = (pattern.Of - 1 + Most - 1) / Most;
        var kept = Enumerable.Range(1, pattern.Of - 1).Where(n => (n - pattern.Keep) % step == 0);
        return Ladder.Open(
            kept.Select(n => new Rung(of(pattern with { Keep = n }), (double)n / pattern.Of)).Append(new Rung(whole, 1)),
            (double)pattern.Keep / pattern.Of
        );
    }
}
