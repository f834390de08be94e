using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// A convolution as a sum of depthwise separable ones, realized as two: a depthwise one that makes several channels of each input and a 1×1
/// convolution of all of these, or a 1×1 convolution that makes several channels for each output and one that filters and adds these.
/// </summary>
/// <param name="Layout">The convolution.</param>
/// <param name="DepthwiseFirst">Whether the filters come first.</param>
/// <param name="Terms">Terms of the sum.</param>
internal sealed record SeparationPlan(ProductLayout Layout, bool DepthwiseFirst, int Terms)
{
    private static readonly bool[] Orders = [true, false];

    /// <summary>Weights of both factors.</summary>
    public long Weights => Terms * EachWeights;

    /// <summary>Multiply-accumulates of a position of the output.</summary>
    public long Work => Terms * EachWork;

    private long Pointwise => Layout.Inputs * Layout.Outputs;

    private long EachWeights => Pointwise + (DepthwiseFirst ? Layout.Inputs : Layout.Outputs) * Layout.Pixels;

    // A 1×1 convolution in front makes every pixel that the strides behind it leave out.
    private long EachWork =>
        DepthwiseFirst ? EachWeights : Pointwise * Layout.Strides.Aggregate(1L, (a, s) => a * s) + Layout.Outputs * Layout.Pixels;

    // Of as many terms the sum is exact.
    private long Most => Math.Min(Layout.Pixels, DepthwiseFirst ? Layout.Outputs : Layout.Inputs);

    /// <summary>The sums of both orders that take fewer multiply-accumulates, and no more than a share where one is given.</summary>
    /// <param name="layout">The convolution.</param>
    /// <param name="terms">Terms, where they are given.</param>
    /// <param name="ratio">Share of the multiply-accumulates; used where terms are not given.</param>
    public static IReadOnlyList<SeparationPlan> Of(ProductLayout layout, int? terms, double? ratio)
    {
        var most = Math.Min(layout.Elements - 1, terms is null ? (long)(ratio!.Value * layout.Elements) : layout.Elements);
        return
        [
            .. Orders
                .Select(first => new SeparationPlan(layout, first, 1))
                .Select(one => one with { Terms = (int)Math.Min(one.Most, terms ?? most / one.EachWork) })
                .Where(p => p.Terms > 0 && p.Work <= most),
        ];
    }

    /// <summary>The factors' dimensions, and their parts of the operator.</summary>
    public IReadOnlyList<ProductFactor> Places()
    {
        int[] all = [.. Enumerable.Range(0, Layout.Kernel.Count)];
        long[] kernel = [.. Layout.Kernel.Select(k => (long)k)],
            ones = [.. kernel.Select(_ => 1L)];
        return DepthwiseFirst
            ?
            [
                new([Layout.Inputs * Terms, 1, .. kernel], all) { Groups = Layout.Inputs },
                new([Layout.Outputs, Layout.Inputs * Terms, .. ones], []),
            ]
            :
            [
                new([Layout.Outputs * Terms, Layout.Inputs, .. ones], []),
                new([Layout.Outputs, Terms, .. kernel], all) { Groups = Layout.Outputs },
            ];
    }
}
