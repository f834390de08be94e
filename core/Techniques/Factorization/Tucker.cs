using System.Numerics.Tensors;
using Serverless.Core.Forms;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Tucker decompositions of kernels along inputs and outputs: 1×1, the kernel between fewer channels, 1×1 (Kim et al. 2016, "Compression of
/// Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", section 3.1). Ranks are those whose part of the core has
/// most energy at the weights allowed; orthogonal iterations follow (De Lathauwer, De Moor and Vandewalle 2000, "On the Best Rank-1 and
/// Rank-(R1, …, RN) Approximation of Higher-Order Tensors", algorithm 4.2).
/// </summary>
internal static class Tucker
{
    private const int Iterations = 2;

    /// <summary>Decomposes a weight.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="ranks">The ranks that are allowed.</param>
    /// <param name="energy">Share of the energy that is enough.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The factors; null where no ranks are allowed.</returns>
    public static FoundProduct? Of(double[] weight, TuckerRanks ranks, double energy, CancellationToken cancellation)
    {
        var (inputs, pixels, outputs) = Sides(ranks.Layout);
        var squares = TensorPrimitives.SumOfSquares<double>(weight);
        var (core, ins, outs) = Core(weight, ranks, cancellation);
        if (ranks.Best(Energies(core, pixels, outs.Length / outputs), energy < 1 ? energy * squares : squares) is not var (rIn, rOut))
            return null;
        (ins, outs) = (Narrowed(ins, inputs, rIn), outs[..(rOut * outputs)]);
        var between = new double[inputs * pixels * rOut];
        var kept = new double[rIn * pixels * outputs];
        for (var i = 0; i <= Iterations; i++)
        {
            MatrixProduct.Multiply(1, weight, false, outs, true, null, between, inputs * pixels, outputs, rOut);
            if (i > 0)
                ins = Padded(LowRank.Of(between, inputs, pixels * rOut, rIn, 1, cancellation).LeftVectors(), inputs, rIn);
            MatrixProduct.Multiply(1, ins, true, weight, false, null, kept, rIn, inputs, pixels * outputs);
            if (i > 0)
                outs = Lengthened(LowRank.Of(kept, rIn * pixels, outputs, rOut, 1, cancellation).RightVectors(), rOut * outputs);
        }
        core = new double[rIn * pixels * rOut];
        MatrixProduct.Multiply(1, kept, false, outs, true, null, core, rIn * pixels, outputs, rOut);
        var captured = TensorPrimitives.SumOfSquares<double>(core);
        return new FoundProduct(Factors(ranks, ins, core, outs, rIn, rOut), squares - captured, squares == 0 ? 1 : captured / squares)
        {
            Rank = rIn,
        };
    }

    /// <summary>The factors as operators take them.</summary>
    /// <param name="ranks">The weight.</param>
    /// <param name="ins">Inputs × their rank.</param>
    /// <param name="core">Rank of the inputs × kernel × rank of the outputs.</param>
    /// <param name="outs">Rank of the outputs × outputs.</param>
    /// <param name="rIn">Rank of the inputs.</param>
    /// <param name="rOut">Rank of the outputs.</param>
    public static IReadOnlyList<FoundFactor> Factors(TuckerRanks ranks, double[] ins, double[] core, double[] outs, int rIn, int rOut)
    {
        var (inputs, pixels, outputs) = Sides(ranks.Layout);
        var places = ranks.Places(rIn, rOut);
        return
        [
            new(KernelSplit.Turned(ins, inputs, rIn), places[0]),
            new(KernelSplit.Turned(core, rIn * pixels, rOut), places[1]),
            new(KernelSplit.Turned(outs, rOut, outputs), places[2]),
        ];
    }

    /// <summary>The core along all singular vectors, their energies by rank: the sums over the kernel of its squares.</summary>
    /// <param name="weight">Inputs × kernel × outputs.</param>
    /// <param name="ranks">The ranks that are allowed.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The core, MostIn × kernel × MostOut, and the vectors along inputs, as columns, and outputs, as rows.</returns>
    public static (double[] Core, double[] Ins, double[] Outs) Core(double[] weight, TuckerRanks ranks, CancellationToken cancellation)
    {
        var (inputs, pixels, outputs) = Sides(ranks.Layout);
        var (mostIn, mostOut) = (ranks.MostIn, ranks.MostOut);
        var ins = LowRank.Of(weight, inputs, pixels * outputs, mostIn, 1, cancellation).LeftVectors();
        var outs = LowRank.Of(weight, inputs * pixels, outputs, mostOut, 1, cancellation).RightVectors();
        // A kernel has fewer singular vectors than channels where the other side has fewer still.
        (ins, outs) = (Padded(ins, inputs, mostIn), Lengthened(outs, mostOut * outputs));
        var (half, core) = (new double[mostIn * pixels * outputs], new double[mostIn * pixels * mostOut]);
        MatrixProduct.Multiply(1, ins, true, weight, false, null, half, mostIn, inputs, pixels * outputs);
        MatrixProduct.Multiply(1, half, false, outs, true, null, core, mostIn * pixels, outputs, mostOut);
        return (core, ins, outs);
    }

    /// <summary>Energies of a core by rank along inputs and outputs.</summary>
    public static double[] Energies(double[] core, int pixels, int mostOut)
    {
        var energies = new double[core.Length / pixels];
        for (var i = 0; i < core.Length; i++)
            energies[i / mostOut / pixels * mostOut + i % mostOut] += core[i] * core[i];
        return energies;
    }

    private static (int Inputs, int Pixels, int Outputs) Sides(ProductLayout layout) =>
        checked(((int)layout.Inputs, (int)layout.Pixels, (int)layout.Outputs));

    private static double[] Lengthened(double[] rows, int length) => [.. rows, .. new double[length - rows.Length]];

    private static double[] Narrowed(double[] columns, int rows, int kept) => Widened(columns, rows, kept, kept);

    private static double[] Padded(double[] columns, int rows, int width) => Widened(columns, rows, columns.Length / rows, width);

    private static double[] Widened(double[] columns, int rows, int copied, int width)
    {
        var (before, to) = (columns.Length / rows, new double[rows * width]);
        for (var i = 0; i < rows; i++)
            columns.AsSpan(i * before, copied).CopyTo(to.AsSpan(i * width));
        return to;
    }
}
