using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// A kernel as filters of each input and a matrix behind them, by the singular value decomposition of each input's outputs × kernel (Guo et
/// al. 2018, "Network Decoupling: From Regular to Depthwise Separable Convolutions", theorem 1, DW + PW).
/// </summary>
/// <param name="plan">The sum.</param>
/// <param name="filters">Of each input: kernel × terms.</param>
/// <param name="points">Inputs × terms × outputs.</param>
internal sealed class DepthwiseFirst(SeparationPlan plan, IReadOnlyList<double[]> filters, double[] points)
{
    /// <summary>Decomposes a kernel.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="plan">The sum.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static DepthwiseFirst Of(double[] weight, SeparationPlan plan, CancellationToken cancellation)
    {
        var (pixels, outputs, terms) = ((int)plan.Layout.Pixels, (int)plan.Layout.Outputs, plan.Terms);
        var (filters, points) = (new List<double[]>(), new double[plan.Layout.Inputs * terms * outputs]);
        for (var i = 0; i < plan.Layout.Inputs; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var own = weight.AsMemory(i * pixels * outputs, pixels * outputs);
            var found = LowRank.Of(own, pixels, outputs, terms, 1, cancellation);
            filters.Add(found.Left);
            found.Right.CopyTo(points, i * terms * outputs);
        }
        return new DepthwiseFirst(plan, filters, points);
    }

    /// <summary>The same filters with the matrix behind them whose outputs are nearest to the kernel's on its inputs.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="moments">Moments of inputs × kernel.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public DepthwiseFirst Refitted(double[] weight, double[] moments, CancellationToken cancellation) =>
        new(plan, filters, BlockRefit.Of(moments, weight, (int)plan.Layout.Outputs, filters, plan.Terms, cancellation).Solved);

    /// <summary>The kernel that both factors make: inputs × kernel × outputs.</summary>
    public double[] Product()
    {
        var (pixels, outputs, terms) = ((int)plan.Layout.Pixels, (int)plan.Layout.Outputs, plan.Terms);
        var product = new double[filters.Count * pixels * outputs];
        for (var i = 0; i < filters.Count; i++)
        {
            var (own, to) = (points.AsMemory(i * terms * outputs), product.AsMemory(i * pixels * outputs, pixels * outputs));
            MatrixProduct.Multiply(1, filters[i], false, own, false, null, to, pixels, terms, outputs);
        }
        return product;
    }

    /// <summary>The factors as operators take them.</summary>
    public IReadOnlyList<FoundFactor> Factors()
    {
        var (places, width, outputs) = (plan.Places(), (int)plan.Layout.Inputs * plan.Terms, (int)plan.Layout.Outputs);
        double[] depthwise = [.. filters.SelectMany(f => KernelSplit.Turned(f, (int)plan.Layout.Pixels, plan.Terms))];
        return [new(depthwise, places[0]), new(KernelSplit.Turned(points, width, outputs), places[1])];
    }
}
