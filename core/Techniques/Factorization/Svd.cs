using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Options of <see cref="Svd"/>.</summary>
public sealed record SvdOptions : RankOptions;

/// <summary>
/// Truncated singular value decomposition (Denton et al. 2014, "Exploiting Linear Structure Within Convolutional Networks for Efficient
/// Evaluation"; Sainath et al. 2013, "Low-rank Matrix Factorization for Deep Neural Network Training", section 3): P = U·√S and Q = √S·Vᵀ
/// of the largest singular values of the weight.
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
    private protected override Task<IApproximation> PrepareAsync(
        LayerWork work,
        SvdOptions options,
        double[] weight,
        CancellationToken cancellation
    ) => Task.FromResult<IApproximation>(new NearestWeights(weight, null));
}

/// <summary>Products nearest to a weight.</summary>
/// <param name="weight">Inputs × kernel × outputs.</param>
/// <param name="fallback">Why they are not those nearest to the outputs, or null.</param>
internal sealed class NearestWeights(double[] weight, string? fallback) : IApproximation
{
    private readonly double squares = TensorPrimitives.SumOfSquares<double>(weight);

    /// <inheritdoc/>
    public string? Fallback => fallback;

    /// <inheritdoc/>
    public FoundProduct Split(KernelSplit split, int most, double energy, CancellationToken cancellation)
    {
        var matrix = split.Behind == 1 ? weight : split.Unfold(weight);
        var found = LowRank.Of(matrix, split.Rows, split.Columns, most, energy, cancellation);
        return new FoundProduct(
            split.Factors(found.Left, found.Right, found.Rank),
            Math.Max(0, squares - found.Captured),
            squares == 0 ? 1 : found.Captured / squares
        )
        {
            Rank = found.Rank,
        };
    }

    /// <inheritdoc/>
    public FoundProduct? Tucker(TuckerRanks ranks, double energy, CancellationToken cancellation) =>
        Factorization.Tucker.Of(weight, ranks, energy, cancellation);
}
