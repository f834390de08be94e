using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Weight matching (Ainsworth et al. 2023, "Git Re-Basin: Merging Models modulo Permutation Symmetries", section 3.2, algorithm 1): the
/// order of hidden units in which the matrices of one block are nearest to those of another. One group of units after the other gets the
/// order that makes Σ⟨A, P·B⟩ largest with the others as they are, a linear assignment, until none changes.
/// </summary>
internal static class UnitMatching
{
    private const int MostRounds = 10;

    // Of the gain; less is rounding.
    private const double Worthwhile = 1e-9;

    /// <summary>The blocks of a cluster with their units in the order that is nearest to that of another cluster.</summary>
    /// <param name="to">The other cluster.</param>
    /// <param name="cluster">The cluster.</param>
    /// <param name="cancellation">Cancels the search.</param>
    public static IReadOnlyList<BlockValues> Aligned(BlockCluster to, BlockCluster cluster, CancellationToken cancellation)
    {
        var (first, target) = (cluster.Blocks[0], to.Blocks[0]);
        // Groups that every block of both has at the same places.
        var groups = Enumerable
            .Range(0, first.Groups.Count)
            .Where(g => target.Groups.Any(t => first.Groups[g].IsLike(t, first.Block, target.Block)))
            .Where(g => cluster.Blocks.All(b => g < b.Groups.Count && b.Groups[g].IsLike(first.Groups[g], b.Block, first.Block)))
            .ToList();
        IReadOnlyList<BlockValues> blocks = cluster.Blocks;
        for (var (round, changed) = (0, true); changed && round < MostRounds; round++)
        {
            changed = false;
            foreach (var g in groups)
            {
                var gains = Gains(to, new BlockCluster(blocks), first.Groups[g]);
                var units = first.Groups[g].Units;
                var order = LinearAssignment.Maximize(gains, units, cancellation);
                var (now, best) = (Sum(u => u), Sum(u => order[u]));
                if (best - now <= Worthwhile * (Math.Abs(best) + Math.Abs(now)))
                    continue;
                blocks = [.. blocks.Select(b => b.Permuted(b.Groups[g], order))];
                changed = true;

                double Sum(Func<int, int> column) => Enumerable.Range(0, units).Sum(u => gains[u * units + column(u)]);
            }
        }
        return blocks;
    }

    // ⟨unit of the one, unit of the other⟩ over all matrices that hold them.
    private static double[] Gains(BlockCluster to, BlockCluster cluster, UnitGroup group)
    {
        var gains = new double[group.Units * group.Units];
        foreach (var (place, axis) in group.Places(cluster.Blocks[0].Block))
        {
            var (a, b) = (axis.Rows(to.Shared[place.Matrix]), axis.Rows(cluster.Shared[place.Matrix]));
            var next = new double[gains.Length];
            MatrixProduct.Multiply(1, a, false, b, true, gains, next, group.Units, a.Length / group.Units, group.Units);
            gains = next;
        }
        return gains;
    }
}
