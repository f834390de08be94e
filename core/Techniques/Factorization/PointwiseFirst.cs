using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// A kernel as a matrix and filters of each output behind it, by the singular value decomposition of each output's inputs × kernel (Guo et
/// al. 2018, theorem 1, PW + DW).
/// </summary>
/// <param name="plan">The sum.</param>
/// <param name="points">Of each output: inputs × terms.</param>
/// <param name="filters">Of each output: terms × kernel.</param>
internal sealed class PointwiseFirst(SeparationPlan plan, IReadOnlyList<double[]> points, IReadOnlyList<double[]> filters)
{
    /// <summary>Decomposes a kernel.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="plan">The sum.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static PointwiseFirst Of(double[] weight, SeparationPlan plan, CancellationToken cancellation)
    {
        var (inputs, pixels, outputs) = ((int)plan.Layout.Inputs, (int)plan.Layout.Pixels, (int)plan.Layout.Outputs);
        var (points, filters) = (new List<double[]>(), new List<double[]>());
        for (var o = 0; o < outputs; o++)
        {
            cancellation.ThrowIfCancellationRequested();
            var own = new double[inputs * pixels];
            for (var at = 0; at < own.Length; at++)
                own[at] = weight[at * outputs + o];
            var found = LowRank.Of(own, inputs, pixels, plan.Terms, 1, cancellation);
            points.Add(found.Left);
            filters.Add(found.Right);
        }
        return new PointwiseFirst(plan, points, filters);
    }

    /// <summary>
    /// The same filters with the matrix in front of them whose outputs are nearest to the kernel's on its inputs: a least squares problem
    /// for each output, of inputs × terms unknowns.
    /// </summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="moments">Moments of inputs × kernel.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public PointwiseFirst Refitted(double[] weight, double[] moments, CancellationToken cancellation)
    {
        var (outputs, n) = ((int)plan.Layout.Outputs, (int)(plan.Layout.Inputs * plan.Layout.Pixels));
        var seen = new double[weight.Length];
        MatrixProduct.Multiply(1, moments, false, weight, false, null, seen, n, n, outputs);
        var filtered = new FilteredMoments(moments, plan);
        var refitted = new List<double[]>();
        for (var o = 0; o < outputs; o++)
        {
            cancellation.ThrowIfCancellationRequested();
            var right = filtered.Right(seen, filters[o], o);
            int[] order = [.. Enumerable.Range(0, right.Length)];
            InputMoments.Root(filtered.Of(filters[o]), cancellation).Solve(right, 1, order, cancellation);
            refitted.Add(KernelSplit.Turned(right, plan.Terms, (int)plan.Layout.Inputs));
        }
        return new PointwiseFirst(plan, refitted, filters);
    }

    /// <summary>The kernel that both factors make: inputs × kernel × outputs.</summary>
    public double[] Product()
    {
        var (inputs, pixels, outputs) = ((int)plan.Layout.Inputs, (int)plan.Layout.Pixels, (int)plan.Layout.Outputs);
        var (product, own) = (new double[inputs * pixels * outputs], new double[inputs * pixels]);
        for (var o = 0; o < outputs; o++)
        {
            MatrixProduct.Multiply(1, points[o], false, filters[o], false, null, own, inputs, plan.Terms, pixels);
            for (var at = 0; at < own.Length; at++)
                product[at * outputs + o] = own[at];
        }
        return product;
    }

    /// <summary>The factors as operators take them.</summary>
    public IReadOnlyList<FoundFactor> Factors()
    {
        var places = plan.Places();
        double[] pointwise = [.. points.SelectMany(p => KernelSplit.Turned(p, (int)plan.Layout.Inputs, plan.Terms))];
        return [new(pointwise, places[0]), new([.. filters.SelectMany(f => f)], places[1])];
    }
}
