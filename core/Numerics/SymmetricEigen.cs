using MathNet.Numerics.LinearAlgebra;

namespace Serverless.Core.Numerics;

/// <summary>Eigenvalues and eigenvectors of symmetric matrices.</summary>
internal static class SymmetricEigen
{
    /// <summary>Decomposes a matrix.</summary>
    /// <param name="symmetric">size × size.</param>
    /// <param name="size">Its order.</param>
    /// <returns>The eigenvalues, largest first, and the vectors as columns of a row-major matrix in the same order.</returns>
    public static (double[] Values, double[] Vectors) Of(double[] symmetric, int size)
    {
        var found = Matrix<double>.Build.DenseOfRowMajor(size, size, symmetric).Evd(Symmetricity.Symmetric);
        var order = Enumerable.Range(0, size).OrderByDescending(i => found.EigenValues[i].Real).ToArray();
        var columns = found.EigenVectors.ToColumnMajorArray();
        var vectors = new double[size * size];
        for (var k = 0; k < size; k++)
        for (var i = 0; i < size; i++)
            vectors[i * size + k] = columns[order[k] * size + i];
        return ([.. order.Select(i => found.EigenValues[i].Real)], vectors);
    }
}
