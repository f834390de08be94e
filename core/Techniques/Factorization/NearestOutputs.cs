using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Products whose outputs are nearest to a layer's on its real inputs. With the Gram matrix H = XᵀX of these and H = M·Mᵀ,
/// ‖X·(W − Ŵ)‖ = ‖Mᵀ·(W − Ŵ)‖, whose minimum has the largest singular values of Mᵀ·W (Wang et al. 2024, "SVD-LLM", section 3.1). Its right
/// singular vectors V give Ŵ = (W·V)·Vᵀ: M need not be inverted. Where the second factor has a part of the kernel, the first is found so
/// from the moments of the inputs that it meets, summed over the second's part, and the second by least squares.
/// </summary>
/// <param name="weight">Inputs × kernel × outputs.</param>
/// <param name="moments">The inputs' moments, for the error.</param>
/// <param name="damped">The same, damped, which factors are found by.</param>
/// <param name="outputs">Outputs of the layer.</param>
internal sealed class NearestOutputs(double[] weight, InputMoments moments, double[] damped, int outputs) : IApproximation
{
    /// <summary>Memory that finding the factors takes: the moments, damped and in another order, their factor, and projections.</summary>
    public static long WorkingBytes(long n, long outputs) => 8 * (7 * n * n + 4 * n * outputs);

    /// <inheritdoc/>
    public FoundProduct Split(KernelSplit split, int most, double energy, CancellationToken cancellation)
    {
        var projected = new ProjectedInputs(damped, split);
        var matrix = split.Behind == 1 ? weight : split.Unfold(weight);
        var (found, share) = Nearest(matrix, projected.Moments(), split.Columns, most, energy, cancellation);
        var (left, right, rank) = (found.Left, found.Right, found.Rank);
        if (split.Behind > 1)
        {
            (right, _) = projected.Refit(weight, left, rank, cancellation);
            (left, right, _, _) = LowRank.Balanced(left, right, split.Rows, split.Columns, rank, 0);
        }
        return Measured(split.Factors(left, right, rank), share, rank, Product(split, left, right, rank));
    }

    /// <inheritdoc/>
    public FoundProduct? Tucker(TuckerRanks ranks, double energy, CancellationToken cancellation)
    {
        var split = new KernelSplit(ranks.Layout, []);
        var projected = new ProjectedInputs(damped, split);
        var (inputs, pixels) = (split.Rows, split.Behind);
        var root = InputMoments.Root(projected.Moments(), cancellation).ToUpper();
        var scaled = new double[weight.Length];
        MatrixProduct.Multiply(1, root, true, weight, false, null, scaled, inputs, inputs, pixels * outputs);
        var (core, ins, outs) = Factorization.Tucker.Core(scaled, ranks, cancellation);
        var squares = TensorPrimitives.SumOfSquares<double>(scaled);
        var energies = Factorization.Tucker.Energies(core, pixels, outs.Length / outputs);
        if (ranks.Best(energies, energy < 1 ? energy * squares : squares) is not var (rIn, rOut))
            return null;
        // Rows of the first factor span what the leading vectors U of Mᵀ·W make of the inputs: M⁻ᵀ·U.
        var left = projected.Unscaled(ins, inputs, rIn, cancellation);
        var (_, refit) = projected.Refit(weight, left, rIn, cancellation);
        var (found, share) = Nearest(refit.Solved, refit.Moments, outputs, rOut, 1, cancellation);
        rOut = found.Rank;
        var middle = Merged(found.Left, pixels, rIn, rOut);
        var three = Factorization.Tucker.Factors(ranks, left, middle, found.Right, rIn, rOut);
        var product = new double[rIn * pixels * outputs];
        MatrixProduct.Multiply(1, middle, false, found.Right, false, null, product, rIn * pixels, rOut, outputs);
        var whole = new double[weight.Length];
        MatrixProduct.Multiply(1, left, false, product, false, null, whole, inputs, rIn, pixels * outputs);
        return Measured(three, share, rIn, whole);
    }

    // The product of a rank whose outputs are nearest to a matrix's, and the share of the outputs' energy that it keeps.
    private static (LowRank Found, double Share) Nearest(
        double[] matrix,
        double[] moments,
        int columns,
        int most,
        double energy,
        CancellationToken cancellation
    )
    {
        var rows = matrix.Length / columns;
        var weighted = new double[matrix.Length];
        var root = InputMoments.Root(moments, cancellation).ToUpper();
        MatrixProduct.Multiply(1, root, true, matrix, false, null, weighted, rows, rows, columns);
        var found = LowRank.Of(weighted, rows, columns, most, energy, cancellation);
        var squares = TensorPrimitives.SumOfSquares<double>(weighted);
        var (right, left) = (found.RightVectors(), new double[rows * found.Rank]);
        MatrixProduct.Multiply(1, matrix, false, right, true, null, left, rows, columns, found.Rank);
        return (LowRank.Balanced(left, right, rows, columns, found.Rank, found.Captured), squares == 0 ? 1 : found.Captured / squares);
    }

    private static double[] Product(KernelSplit split, double[] left, double[] right, int rank)
    {
        var product = new double[split.Rows * split.Columns];
        MatrixProduct.Multiply(1, left, false, right, false, null, product, split.Rows, rank, split.Columns);
        return split.Behind == 1 ? product : split.Unfold(product, back: true);
    }

    // Kernel × rank × outputs' rank → rank × kernel × outputs' rank.
    private static double[] Merged(double[] core, int pixels, int ins, int outs)
    {
        var merged = new double[core.Length];
        for (var k = 0; k < pixels; k++)
        for (var i = 0; i < ins; i++)
            core.AsSpan((k * ins + i) * outs, outs).CopyTo(merged.AsSpan((i * pixels + k) * outs));
        return merged;
    }

    private FoundProduct Measured(IReadOnlyList<FoundFactor> factors, double share, int rank, double[] product)
    {
        var lost = product;
        TensorPrimitives.Subtract<double>(weight, product, lost);
        return new FoundProduct(factors, TensorPrimitives.SumOfSquares<double>(lost), share)
        {
            Rank = rank,
            OutputError = moments.ErrorOf(lost, outputs),
        };
    }
}
