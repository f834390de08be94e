using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Tells the report what shares.</summary>
internal static class SharingReport
{
    /// <summary>Notes the figures.</summary>
    /// <param name="work">The changed model.</param>
    /// <param name="shared">The clusters.</param>
    /// <param name="sets">The blocks as they were.</param>
    /// <param name="curve">What was tried.</param>
    /// <param name="total">Weights of the model.</param>
    /// <param name="reason">Why there are fewer than asked for, or null.</param>
    public static void Note(
        GraphWork work,
        SharedSets shared,
        IReadOnlyList<IReadOnlyList<BlockValues>> sets,
        IReadOnlyList<SharingPoint> curve,
        long total,
        string? reason
    )
    {
        if (reason is not null)
            work.Warnings.Add($"'share' joined {shared.Merged} {(shared.Merged == 1 ? "block" : "blocks")} to others: {reason}.");
        var original = sets.SelectMany(s => s).ToDictionary(b => b.Block.Block.Output, StringComparer.Ordinal);
        var rows = new List<SharedBlocks>();
        foreach (var cluster in shared.All.Where(c => c.Blocks.Count > 1))
        {
            var first = cluster.Blocks[0].Block;
            foreach (var matrix in first.Matrices)
                work.Changed.Add(new ChangedLayer(matrix.Name, matrix.Reference.Length * cluster.Blocks.Count));
            rows.Add(
                new SharedBlocks(
                    (first.Block.Role == BlockRole.Other ? first.Block.Kind.ToString() : first.Block.Role.ToString()).ToLowerInvariant(),
                    [.. cluster.Blocks.Select(b => b.Block.Block.Output)],
                    [.. first.Matrices.Select(m => m.Name)],
                    Distance(cluster),
                    Distance(new BlockCluster([.. cluster.Blocks.Select(b => original[b.Block.Block.Output])]))
                )
            );
        }
        work.Note(
            work.FreshField(LayerSharing.Field),
            new LayersShared(
                shared.Merged,
                sets.Sum(s => s.Count),
                shared.Saved,
                (double)shared.Saved / Math.Max(1, total),
                work.Trials?.Samples ?? 0,
                reason
            )
        );
        if (rows.Count > 0)
            work.Note(work.FreshField(LayerSharing.ListField), rows);
        if (curve.Count > 0)
            work.Note(work.FreshField(LayerSharing.CurveField), curve);

        static double Distance(BlockCluster cluster) => Math.Sqrt(cluster.Loss / cluster.Shared.Count);
    }
}
