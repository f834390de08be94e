using Serverless.Core.Numerics;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Systems of covariances whose inputs differ a thousandfold are solved to working precision.</summary>
public class SymmetricInverseTests
{
    [Theory]
    [InlineData(20)]
    [InlineData(130)]
    [InlineData(500)]
    public void A_matrix_times_its_inverse_is_one(int n)
    {
        var matrix = Covariance(n);
        var inverse = SymmetricInverse.Of(matrix, n, CancellationToken.None)!;
        var product = new double[n * n];
        MatrixProduct.Multiply(1, matrix, false, inverse, false, null, product, n, n, n);
        for (var i = 0; i < n; i++)
        for (var j = 0; j < n; j++)
            Assert.Equal(i == j ? 1 : 0, product[i * n + j], 1e-6);
    }

    [Fact]
    public void One_that_is_not_positive_definite_has_none()
    {
        var matrix = Covariance(60);
        matrix[7 * 60 + 7] = -1;
        Assert.Null(SymmetricInverse.Of(matrix, 60, CancellationToken.None));
    }

    // A few directions hold nearly all of it, as those of activations do.
    private static double[] Covariance(int n)
    {
        var random = new Random(1);
        var matrix = new double[n * n];
        for (var d = 0; d < 8; d++)
        {
            var direction = Enumerable.Range(0, n).Select(_ => random.NextDouble() - 0.5).ToArray();
            for (var i = 0; i < n; i++)
            for (var j = 0; j < n; j++)
                matrix[i * n + j] += direction[i] * direction[j] * Math.Pow(10, -0.5 * d);
        }
        for (var i = 0; i < n; i++)
            matrix[i * n + i] += 1e-4;
        return matrix;
    }
}
