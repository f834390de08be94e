using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>How large the factors of a weight may be.</summary>
/// <param name="Weights">Weights of all factors, at most.</param>
/// <param name="Rank">The rank, where it is given.</param>
internal sealed record FactorLimit(long Weights, int? Rank)
{
    /// <summary>The ratio where none is given.</summary>
    public const double DefaultRatio = 0.5;

    /// <summary>The limit that options set: fewer weights than the layer's, and no more multiply-accumulates than weights.</summary>
    public static FactorLimit Of(ProductLayout layout, RankOptions options)
    {
        var smaller = layout.Elements - 1;
        var free = options.Rank is not null || options.Energy is not null;
        return new FactorLimit(free ? smaller : Math.Min(smaller, (long)((options.Ratio ?? DefaultRatio) * layout.Elements)), options.Rank);
    }

    /// <summary>The splits into two that options allow.</summary>
    public static IReadOnlyList<KernelSplit> Splits(ProductLayout layout, RankOptions options) =>
        KernelSplit.Of(layout, options is { Rank: not null, By: SplitBy.Best } ? SplitBy.Output : options.By);

    /// <summary>The largest rank of a split into two; 0 where none is smaller.</summary>
    public int Most(KernelSplit split)
    {
        var most = Math.Min(Weights / split.Each, Weights / split.Work);
        return Rank is { } rank ? (rank <= most ? rank : 0) : (int)Math.Min(most, Math.Min(split.Rows, split.Columns));
    }
}
