using Serverless.Core.Reports;

namespace Serverless.Benchmarks;

/// <summary>
/// Bytes of pruned layers beside the entropy of their masks and the bits of the weights that are left: n·H(s) + n·(1 − s)·b bits of a layer
/// of n weights, of which a share s is zero and the others take b bits. No code of single weights takes less on average, as long as
/// the values that are left are equally likely.
/// </summary>
/// <param name="Stored">Bytes of the layers, nodes included.</param>
/// <param name="Bound">Bytes by the entropy.</param>
/// <param name="Forms">The forms that layers have and how many each.</param>
internal sealed record PrunedBytes(double Stored, double Bound, string Forms)
{
    /// <summary>Of the layers of a report that have zeros by a step.</summary>
    public static PrunedBytes Of(Report report)
    {
        var pruned = report.Layers.Where(l => l.Steps.Any(s => s.StartsWith("prune", StringComparison.Ordinal))).ToList();
        var forms = pruned.GroupBy(l => l.Form).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} {g.Key}");
        return new PrunedBytes(pruned.Sum(l => l.BytesAfter), pruned.Sum(Least), string.Join(", ", forms));
    }

    /// <summary>Bits a weight by the entropy.</summary>
    /// <param name="sparsity">Share that is zero.</param>
    /// <param name="bits">Bits of the others.</param>
    public static double Bits(double sparsity, double bits) => Part(sparsity) + Part(1 - sparsity) + (1 - sparsity) * bits;

    private static double Least(ReportLayer layer) => layer.Shape.Aggregate(1.0, (a, b) => a * b) * Bits(layer.Sparsity, layer.Bits) / 8;

    private static double Part(double share) => share > 0 ? -share * Math.Log2(share) : 0;
}
