using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Options of <see cref="Svd"/>.</summary>
public sealed record SvdOptions : RankOptions;

/// <summary>
/// Truncated singular value decomposition (Denton et al. 2014, "Exploiting Linear Structure Within Convolutional Networks for Efficient
/// Evaluation"; Sainath et al. 2013, "Low-rank Matrix Factorization for Deep Neural Network Training", section 3): P = U·√S and Q = √S·Vᵀ of
/// the largest singular values of the weight.
/// </summary>
public sealed class Svd : Factorization<SvdOptions>
{
    /// <inheritdoc/>
    public override string Method => "svd";

    /// <inheritdoc/>
    public override string About =>
        "A matrix becomes the product of two smaller ones, by its largest singular values (Denton et al. 2014).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    private protected override Task<FoundFactors> ApproximateAsync(
        LayerWork work,
        SvdOptions options,
        Memory<double> matrix,
        (int Rows, int Columns) sides,
        int most,
        CancellationToken cancellation
    ) => Task.FromResult(Of(matrix, sides, most, options.Energy ?? 1, cancellation));

    /// <summary>The factors nearest to a matrix.</summary>
    internal static FoundFactors Of(
        Memory<double> matrix,
        (int Rows, int Columns) sides,
        int most,
        double energy,
        CancellationToken cancellation
    )
    {
        var found = LowRank.Of(matrix, sides.Rows, sides.Columns, most, energy, cancellation);
        var squares = System.Numerics.Tensors.TensorPrimitives.SumOfSquares<double>(matrix.Span);
        return new FoundFactors(found, Math.Max(0, squares - found.Captured), squares == 0 ? 1 : found.Captured / squares);
    }
}
