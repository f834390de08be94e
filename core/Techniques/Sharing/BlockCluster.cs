using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Blocks that share their matrices, each with its units in the order that the first one has them.</summary>
internal sealed class BlockCluster
{
    private const float LeastImportance = 1e-4f;

    /// <summary>Shares the matrices of blocks.</summary>
    /// <param name="blocks">The blocks, in the order of the graph.</param>
    public BlockCluster(IReadOnlyList<BlockValues> blocks)
    {
        Blocks = blocks;
        Shared = [.. blocks[0].Block.Matrices.Select((_, m) => Mean(m))];
    }

    /// <summary>The blocks.</summary>
    public IReadOnlyList<BlockValues> Blocks { get; }

    /// <summary>The matrices that stand for theirs: means, weighted by importance.</summary>
    public IReadOnlyList<float[]> Shared { get; }

    /// <summary>Squared distance of the blocks' matrices to the shared ones, of each matrix over its squared length, summed.</summary>
    public double Loss => Enumerable.Range(0, Shared.Count).Sum(m => Lost(m) is var (lost, all) && all > 0 ? lost / all : 0);

    /// <summary>Both clusters as one.</summary>
    /// <param name="other">Blocks behind these.</param>
    /// <param name="align">Whether the others' units are put into the order in which they are nearest first.</param>
    /// <param name="cancellation">Cancels the search.</param>
    public BlockCluster With(BlockCluster other, bool align, CancellationToken cancellation) =>
        new([.. Blocks, .. align ? UnitMatching.Aligned(this, other, cancellation) : other.Blocks]);

    /// <summary>The product of a rank that is nearest, by importance, to a block's matrix less the shared one.</summary>
    public LowRank Difference(int block, int matrix, int rank, CancellationToken cancellation)
    {
        var (values, weight) = (Blocks[block].Matrix(matrix), Blocks[block].Block.Matrices[matrix]);
        var (rows, importance) = ((int)weight.Reference.Dims[0], Blocks[block].Weights(matrix));
        var columns = values.Length / rows;
        // Inputs, of which each has one importance, lie along rows or columns; one that is never there has a little.
        var (byColumn, least) = (LayerShape.Of(weight).Inner == 1, LeastImportance * (importance?.Average() ?? 0));
        var scales = new double[byColumn ? columns : rows];
        for (var i = 0; i < scales.Length; i++)
            scales[i] = importance is null || least == 0 ? 1 : Math.Sqrt(importance[byColumn ? i : i * columns] + least);
        var difference = new double[values.Length];
        for (var i = 0; i < values.Length; i++)
            difference[i] = ((double)values[i] - Shared[matrix][i]) * scales[byColumn ? i % columns : i / columns];
        var found = LowRank.Of(difference, rows, columns, rank, 1, cancellation);
        for (var i = 0; i < (byColumn ? found.Right.Length : found.Left.Length); i++)
            if (byColumn)
                found.Right[i] /= scales[i % columns];
            else
                found.Left[i] /= scales[i / found.Rank];
        return LowRank.Balanced(found.Left, found.Right, rows, columns, found.Rank, found.Captured);
    }

    private float[] Mean(int matrix)
    {
        if (Blocks.Count == 1)
            return Blocks[0].Matrix(matrix);
        var (sums, weights, plain) = (
            new double[Blocks[0].Matrix(matrix).Length],
            new double[Blocks[0].Matrix(matrix).Length],
            new double[Blocks[0].Matrix(matrix).Length]
        );
        foreach (var block in Blocks)
        {
            var (values, importance) = (block.Matrix(matrix), block.Weights(matrix));
            for (var i = 0; i < values.Length; i++)
            {
                double weight = importance?[i] ?? 1;
                sums[i] += weight * values[i];
                weights[i] += weight;
                plain[i] += values[i];
            }
        }
        var mean = new float[sums.Length];
        for (var i = 0; i < mean.Length; i++)
            mean[i] = (float)(weights[i] > 0 ? sums[i] / weights[i] : plain[i] / Blocks.Count);
        return mean;
    }

    private (double Lost, double All) Lost(int matrix)
    {
        double lost = 0,
            all = 0;
        foreach (var block in Blocks)
        {
            var (values, importance) = (block.Matrix(matrix), block.Weights(matrix));
            for (var i = 0; i < values.Length; i++)
            {
                double weight = importance?[i] ?? 1,
                    apart = (double)values[i] - Shared[matrix][i];
                (lost, all) = (lost + weight * apart * apart, all + weight * values[i] * values[i]);
            }
        }
        return (lost, all);
    }
}
