namespace Serverless.Core.Numerics;

/// <summary>
/// Orthonormal columns that span those of a tall matrix, by the Cholesky factor of their Gram matrix, twice: the second time makes up for
/// what the first lost to rounding (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015, "Roundoff error analysis of the CholeskyQR2
/// algorithm"). All but a fraction of the work is matrix products.
/// </summary>
internal static class OrthonormalBasis
{
    // Of the largest eigenvalue of the Gram matrix: below, rounding leaves nothing of a direction.
    private const double Negligible = 1e-13;

    private const double Safe = 1e-6;

    /// <summary>Makes columns orthonormal.</summary>
    /// <param name="columns">rows × width, row-major; not changed.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="width">Columns, at most as many as rows.</param>
    /// <param name="passes">Two for orthonormal columns; one where they are to be told apart alone, as between power iterations.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>
    /// The basis, rows × its width, row-major; narrower where the columns depend on one another to working precision.
    /// </returns>
    public static (double[] Columns, int Width) Of(double[] columns, int rows, int width, int passes, CancellationToken cancellation)
    {
        for (var pass = 0; pass < passes; pass++)
        {
            var gram = new double[width * width];
            MatrixProduct.Multiply(1, columns, true, columns, false, null, gram, width, rows, width);
            var (turn, kept) = Turn(gram, width, cancellation);
            var turned = new double[rows * kept];
            MatrixProduct.Multiply(1, columns, false, turn, false, null, turned, rows, width, kept);
            (columns, width) = (turned, kept);
        }
        return (columns, width);
    }

    // T with Tᵀ·G·T = I: M⁻ᵀ = G⁻¹·M of G = M·Mᵀ; where G is singular, its eigenvectors over the roots of their eigenvalues (Stathopoulos
    // and Wu 2002, "A Block Orthogonalization Procedure with Constant Synchronization Requirements", algorithm SVQB).
    private static (double[] Turn, int Kept) Turn(double[] gram, int width, CancellationToken cancellation)
    {
        int[] order = [.. Enumerable.Range(0, width)];
        if (CholeskyFactor.Of(gram, order, 0, cancellation) is { } factor && IsSafe(factor, width))
        {
            var turn = factor.ToUpper();
            factor.Solve(turn, width, order, cancellation);
            return (turn, width);
        }
        var (values, vectors) = SymmetricEigen.Of(gram, width);
        var kept = Math.Max(1, values.TakeWhile(v => v > Negligible * values[0]).Count());
        var scaled = new double[width * kept];
        for (var i = 0; i < width; i++)
        for (var k = 0; k < kept; k++)
            scaled[i * kept + k] = vectors[i * width + k] / Math.Sqrt(values[0] > 0 ? values[k] : 1);
        return (scaled, kept);
    }

    // The second pass mends condition numbers up to the root of the precision; the ratio of the diagonal's ends is no larger.
    private static bool IsSafe(CholeskyFactor factor, int width)
    {
        var (least, most) = (double.PositiveInfinity, 0.0);
        for (var i = 0; i < width; i++)
            (least, most) = (Math.Min(least, factor.Diagonal(i)), Math.Max(most, factor.Diagonal(i)));
        return least > Safe * most;
    }
}
