namespace Serverless.Core.Techniques.Sharing;

/// <summary>Neighbours of a set of like blocks that may be joined.</summary>
/// <param name="Set">The set.</param>
/// <param name="First">The first one's place among the set's clusters; the other follows it.</param>
/// <param name="Joined">Both as one.</param>
/// <param name="Cost">By how much the distance grows.</param>
internal sealed record ClusterMerge(int Set, int First, BlockCluster Joined, double Cost);

/// <summary>The clusters of all sets of like blocks, and their joins by distance.</summary>
/// <param name="sets">Blocks of each set, in the order of the graph.</param>
/// <param name="options">The step's options.</param>
internal sealed class SharedSets(IReadOnlyList<IReadOnlyList<BlockValues>> sets, LayerSharingOptions options)
{
    private readonly List<List<BlockCluster>> clusters = [.. sets.Select(s => s.Select(b => new BlockCluster([b])).ToList())];
    private readonly Dictionary<(BlockCluster, BlockCluster), BlockCluster> joined = [];

    /// <summary>Blocks that gave up matrices of their own.</summary>
    public int Merged { get; private set; }

    /// <summary>All clusters.</summary>
    public IEnumerable<BlockCluster> All => clusters.SelectMany(c => c);

    /// <summary>Weights that are stored no more, differences counted against it.</summary>
    public long Saved => SavedBy(All);

    /// <summary>The joins that the options allow, the least distance first.</summary>
    public IReadOnlyList<ClusterMerge> Merges(CancellationToken cancellation)
    {
        var found = new List<ClusterMerge>();
        for (var s = 0; s < clusters.Count && Merged < options.Most; s++)
        for (var i = 0; i + 1 < clusters[s].Count && clusters[s].Count > (options.Groups ?? 1); i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (a, b) = (clusters[s][i], clusters[s][i + 1]);
            if (!joined.TryGetValue((a, b), out var both))
                joined[(a, b)] = both = a.With(b, options.Align, cancellation);
            // Sums of squares, so that a join is weighed by how many blocks it moves.
            found.Add(new ClusterMerge(s, i, both, Weighed(both) - Weighed(a) - Weighed(b)));
        }
        return [.. found.OrderBy(m => m.Cost)];
    }

    /// <summary>The clusters with two joined.</summary>
    public IEnumerable<BlockCluster> With(ClusterMerge merge) =>
        clusters.SelectMany((set, s) => s != merge.Set ? set : [.. set.Take(merge.First), merge.Joined, .. set.Skip(merge.First + 2)]);

    /// <summary>Joins two.</summary>
    public void Apply(ClusterMerge merge)
    {
        clusters[merge.Set][merge.First] = merge.Joined;
        clusters[merge.Set].RemoveAt(merge.First + 1);
        Merged++;
    }

    /// <summary>Weights that clusters store no more.</summary>
    public long SavedBy(IEnumerable<BlockCluster> all) =>
        all.Where(c => c.Blocks.Count > 1)
            .Sum(c =>
                c.Blocks[0]
                    .Block.Matrices.Sum(m =>
                    {
                        var (elements, rows) = (m.Reference.Elements, m.Reference.Dims[0]);
                        var own = SharedModel.HasDifference(m, c.Blocks.Count, options.Rank) ? options.Rank * (rows + elements / rows) : 0;
                        return (c.Blocks.Count - 1) * elements - c.Blocks.Count * own;
                    })
            );

    private static double Weighed(BlockCluster cluster) => cluster.Loss * cluster.Blocks.Count;
}
