using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Inputs of a layer as its first factor meets them, and what the second gets to see: with the inputs in blocks, one for each element of
/// the second factor's kernel, all blocks are projected by the same matrix.
/// </summary>
internal sealed class ProjectedInputs
{
    private readonly KernelSplit split;
    private readonly int[] order;
    private readonly double[] blocks;
    private readonly int n;

    /// <summary>Puts the moments into the order of a split.</summary>
    /// <param name="moments">Moments of inputs × kernel, n × n.</param>
    /// <param name="split">The split.</param>
    public ProjectedInputs(double[] moments, KernelSplit split)
    {
        (this.split, order) = (split, split.Order());
        n = order.Length;
        blocks = split.Behind == 1 ? moments : new double[moments.Length];
        if (split.Behind == 1)
            return;
        for (var i = 0; i < n; i++)
        {
            var row = moments.AsSpan(order[i] * n, n);
            for (var j = 0; j < n; j++)
                blocks[i * n + j] = row[order[j]];
        }
    }

    /// <summary>Moments of the inputs of the first factor, summed over the blocks: rows × rows of the split.</summary>
    public double[] Moments()
    {
        if (split.Behind == 1)
            return blocks;
        var rows = split.Rows;
        var sum = new double[rows * rows];
        for (var b = 0; b < split.Behind; b++)
        for (var i = 0; i < rows; i++)
        {
            var to = sum.AsSpan(i * rows, rows);
            TensorPrimitives.Add<double>(to, blocks.AsSpan((b * rows + i) * n + b * rows, rows), to);
        }
        return sum;
    }

    /// <summary>M⁻ᵀ·U of the moments M·Mᵀ = Σ of the first factor's inputs, as Σ⁻¹·(M·U), each column of length one.</summary>
    /// <param name="vectors">U, rows × any number of columns, of which the first are taken.</param>
    /// <param name="rows">Rows of the split.</param>
    /// <param name="kept">Columns that are taken.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public double[] Unscaled(double[] vectors, int rows, int kept, CancellationToken cancellation)
    {
        var root = InputMoments.Root(Moments(), cancellation);
        var (width, taken, turned) = (vectors.Length / rows, new double[rows * kept], new double[rows * kept]);
        for (var i = 0; i < rows; i++)
            vectors.AsSpan(i * width, kept).CopyTo(taken.AsSpan(i * kept));
        MatrixProduct.Multiply(1, root.ToUpper(), false, taken, false, null, turned, rows, rows, kept);
        root.Solve(turned, kept, [.. Enumerable.Range(0, rows)], cancellation);
        return new LowRank(turned, [], kept, 0).LeftVectors();
    }

    /// <summary>The second factor whose outputs are nearest to the layer's behind a first: least squares on the projected inputs.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="left">The first factor, rows × rank.</param>
    /// <param name="rank">The rank.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The second factor, rank × columns of the split, and what it was found by.</returns>
    public (double[] Right, BlockRefit Refit) Refit(double[] weight, double[] left, int rank, CancellationToken cancellation)
    {
        var (behind, outputs, ordered) = (split.Behind, (int)split.Layout.Outputs, new double[weight.Length]);
        for (var i = 0; i < n; i++)
            weight.AsSpan(order[i] * outputs, outputs).CopyTo(ordered.AsSpan(i * outputs));
        var refit = BlockRefit.Of(blocks, ordered, outputs, [.. Enumerable.Repeat(left, behind)], rank, cancellation);
        return (Columns(refit.Solved, rank, behind, outputs), refit);
    }

    // Kernel × rank × outputs → rank × outputs × kernel.
    private static double[] Columns(double[] solved, int rank, int behind, int outputs)
    {
        var right = new double[solved.Length];
        for (var b = 0; b < behind; b++)
        for (var r = 0; r < rank; r++)
        for (var o = 0; o < outputs; o++)
            right[(r * outputs + o) * behind + b] = solved[(b * rank + r) * outputs + o];
        return right;
    }
}
