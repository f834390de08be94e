using System.ComponentModel.DataAnnotations;
using System.Numerics.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Options of <see cref="Drone"/>.</summary>
public sealed record DroneOptions : RankOptions
{
    /// <summary>Samples that inputs are observed on, at most (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>
    /// Share of the mean of the Gram matrix's diagonal that is added to it, at least (default 0.0001): more where the samples are few.
    /// </summary>
    [Range(0.0, 1)]
    public double Damping { get; init; } = 1e-4;
}

/// <summary>
/// Data-aware low-rank factorization (Chen et al. 2021, "DRONE: Data-aware Low-rank Compression for Large NLP Models", theorem 1): of all
/// products of a rank, the one whose outputs are nearest to the layer's on its real inputs. With the Gram matrix H = XᵀX of these and
/// H = M·Mᵀ, ‖X·(W − Ŵ)‖ = ‖Mᵀ·(W − Ŵ)‖, whose minimum has the largest singular values of Mᵀ·W (Wang et al. 2024, "SVD-LLM",
/// section 3.1). Its right singular vectors V give Ŵ = (W·V)·Vᵀ: M need not be inverted.
/// </summary>
public sealed class Drone : Factorization<DroneOptions>
{
    private const int MostTries = 6;

    /// <inheritdoc/>
    public override string Method => "drone";

    /// <inheritdoc/>
    public override string About =>
        "A matrix becomes the product of two smaller ones whose outputs are nearest on real inputs, calibrated (Chen et al. 2021, DRONE).";

    /// <inheritdoc/>
    protected override StatisticKinds Needs(DroneOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(DroneOptions options) => options.Samples;

    // H, its damped copy, its factor, and twice the weight.
    /// <inheritdoc/>
    private protected override long WorkingBytes(LayerShape shape) => 8 * (4 * shape.Axis * shape.Axis + 2 * shape.Elements);

    /// <inheritdoc/>
    private protected override async Task<FoundFactors> ApproximateAsync(
        LayerWork work,
        DroneOptions options,
        Memory<double> matrix,
        (int Rows, int Columns) sides,
        int most,
        CancellationToken cancellation
    )
    {
        if (work.WhyNoGram is { } why)
            return Plain(why);
        var gram = await work.Input!.ReadGramAsync!(0, cancellation);
        var damping = Math.Max(options.Damping, Hessian.Shrinkage(gram, work.Input.GramRows));
        if (Hessian.Of([.. gram], byMagnitude: false, damping, MostTries, cancellation) is not { } hessian)
            return Plain("the second moments of its input are singular");
        // Outputs lie along the rows of the stored matrix, or along its columns.
        var outputsFirst = work.Shape.Inner == 1;
        var (inputs, outputs) = outputsFirst ? (sides.Columns, sides.Rows) : sides;
        var root = hessian.Factor.ToUpper();
        var weighted = new double[matrix.Length];
        if (outputsFirst)
            MatrixProduct.Multiply(1, matrix, false, root, false, null, weighted, outputs, inputs, inputs);
        else
            MatrixProduct.Multiply(1, root, true, matrix, false, null, weighted, inputs, inputs, outputs);
        var found = LowRank.Of(weighted, sides.Rows, sides.Columns, most, options.Energy ?? 1, cancellation);
        var energy = TensorPrimitives.SumOfSquares<double>(weighted);
        var factors = outputsFirst ? OfOutputsFirst(found, matrix, outputs, inputs) : OfInputsFirst(found, matrix, inputs, outputs);
        var lost = new double[matrix.Length];
        MatrixProduct.Multiply(-1, factors.Left, false, factors.Right, false, matrix, lost, sides.Rows, factors.Rank, sides.Columns);
        return new FoundFactors(factors, TensorPrimitives.SumOfSquares<double>(lost), energy == 0 ? 1 : found.Captured / energy)
        {
            OutputError = OutputErrorOf(lost, gram, outputsFirst, inputs, outputs) / Math.Max(1, work.Input.GramRows),
        };

        FoundFactors Plain(string reason) =>
            Svd.Of(matrix, sides, most, options.Energy ?? 1, cancellation) with
            {
                Fallback = $"factorized without its inputs: {reason}",
            };
    }

    // Vᵀ and W·V: rows of the right factor are right singular vectors, but for their lengths.
    private static LowRank OfInputsFirst(LowRank found, Memory<double> matrix, int inputs, int outputs)
    {
        var (rank, right) = (found.Rank, found.Right);
        for (var k = 0; k < rank; k++)
            Normalize(right.AsSpan(k * outputs, outputs));
        var left = new double[inputs * rank];
        MatrixProduct.Multiply(1, matrix, false, right, true, null, left, inputs, outputs, rank);
        return LowRank.Balanced(left, right, inputs, outputs, rank, found.Captured);
    }

    // V and Vᵀ·W, the same of the transposed matrix.
    private static LowRank OfOutputsFirst(LowRank found, Memory<double> matrix, int outputs, int inputs)
    {
        var (rank, left) = (found.Rank, found.Left);
        var lengths = new double[rank];
        for (var i = 0; i < outputs; i++)
        for (var k = 0; k < rank; k++)
            lengths[k] += left[i * rank + k] * left[i * rank + k];
        for (var i = 0; i < outputs; i++)
        for (var k = 0; k < rank; k++)
            left[i * rank + k] *= lengths[k] > 0 ? 1 / Math.Sqrt(lengths[k]) : 0;
        var right = new double[rank * inputs];
        MatrixProduct.Multiply(1, left, true, matrix, false, null, right, rank, outputs, inputs);
        return LowRank.Balanced(left, right, outputs, inputs, rank, found.Captured);
    }

    private static void Normalize(Span<double> vector)
    {
        var norm = TensorPrimitives.Norm<double>(vector);
        TensorPrimitives.Multiply(vector, norm > 0 ? 1 / norm : 0, vector);
    }

    // Σ ‖d·x‖² over the rows d of the difference: trace of D·H·Dᵀ.
    private static double OutputErrorOf(double[] lost, double[] gram, bool outputsFirst, int inputs, int outputs)
    {
        var product = new double[lost.Length];
        if (outputsFirst)
            MatrixProduct.Multiply(1, lost, false, gram, false, null, product, outputs, inputs, inputs);
        else
            MatrixProduct.Multiply(1, gram, false, lost, false, null, product, inputs, inputs, outputs);
        return Math.Max(0, TensorPrimitives.Dot<double>(product, lost));
    }
}
