using Serverless.Core.Numerics;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Pruning;
using Serverless.Core.Techniques.Quantization;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>
/// SparseGPT against the optimal brain surgeon written out: of the columns that are left the Hessian is inverted anew at each step, so that
/// no Cholesky factor has a part in it.
/// </summary>
public class SparseGptSolverTests
{
    private const int N = 44,
        Rows = 12;

    [Theory]
    [InlineData("none", 0.5, 16, false)]
    [InlineData("none", 0.7, 128, false)]
    [InlineData("none", 0.6, 7, true)]
    [InlineData("2:4", 0.5, 128, false)]
    [InlineData("3:8", 0.625, 128, false)]
    [InlineData("1:32", 0.96875, 128, true)]
    [InlineData("1x4", 0.5, 16, false)]
    [InlineData("5x8", 0.4, 16, false)]
    public void Masks_and_weights_are_those_of_the_dense_reference(string pattern, double sparsity, int block, bool masked)
    {
        var of = SparsityPattern.Parse(pattern);
        var (weights, gram) = Problem(masked);
        var hessian = Hessian.Of((double[])gram.Clone(), false, 0.01, 1, CancellationToken.None)!;
        var tile = new RowTile(0, Rows, (double[])weights.Clone());
        var pruned = new PrunedColumns(tile, of, new PrunedShare(sparsity), hessian.Factor, new bool[N], block, masked);
        var error = ErrorCompensation.Run(tile.Values, Rows, hessian.Factor, hessian.Order, pruned, CancellationToken.None);
        var expected = Reference(weights, gram, of, sparsity, block, masked);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i] == 0, pruned.Result[i] == 0);
            Assert.Equal(expected[i], pruned.Result[i], 1e-9);
        }
        Assert.Equal(OutputError(weights, expected, Damped(gram)), error, 1e-9 * error);
        Assert.True(error < OutputError(weights, [.. weights.Zip(expected, (w, q) => q == 0 ? 0 : w)], Damped(gram)));
    }

    private static double[] Reference(double[] weights, double[] gram, SparsityPattern pattern, double sparsity, int block, bool masked)
    {
        var h = Damped(gram);
        var w = (double[])weights.Clone();
        var inverses = Enumerable.Range(0, N).Select(c => ReferenceInverse.Of(h, from: c)).ToList();
        var span =
            pattern.IsGroups ? pattern.Of
            : pattern.IsBlocks ? Math.Max(1, block / pattern.Columns) * pattern.Columns
            : block;
        long seen = 0,
            gone = 0;
        for (var start = 0; start < N; start += span)
        {
            var count = Math.Min(span, N - start);
            double Score(int r, int i) =>
                masked && weights[(start + i) * Rows + r] == 0 ? -1 : Math.Pow(w[(start + i) * Rows + r], 2) / inverses[start + i][0, 0];
            var all = Enumerable.Range(0, count).SelectMany(i => Enumerable.Range(0, Rows).Select(r => (r, i))).ToList();
            seen += all.Count;
            var room = (long)(sparsity * seen) - gone;
            var mask = new HashSet<(int, int)>();
            if (pattern.IsGroups)
                for (var r = 0; r < Rows; r++)
                    mask.UnionWith(
                        Enumerable.Range(0, count).OrderBy(i => Score(r, i)).Take(count - pattern.KeptOf(count)).Select(i => (r, i))
                    );
            else if (pattern.IsBlocks)
                foreach (
                    var b in all.GroupBy(x => (x.r / pattern.Rows, x.i / pattern.Columns)).OrderBy(b => b.Average(x => Score(x.r, x.i)))
                )
                {
                    if ((room -= b.Count()) < 0)
                        break;
                    mask.UnionWith(b);
                }
            else
                mask.UnionWith(all.OrderBy(x => Score(x.r, x.i)).Take((int)room));
            gone += mask.Count;
            for (var i = 0; i < count; i++)
            for (var r = 0; r < Rows; r++)
            {
                var (c, at) = (start + i, (start + i) * Rows + r);
                if (!mask.Contains((r, i)) && !(masked && weights[at] == 0))
                    continue;
                var off = w[at] / inverses[c][0, 0];
                for (var j = c; j < N; j++)
                    w[j * Rows + r] -= off * inverses[c][0, j - c];
                w[at] = 0;
            }
        }
        return w;
    }

    private static double OutputError(double[] before, double[] after, double[,] h)
    {
        double sum = 0;
        for (var r = 0; r < Rows; r++)
        for (var i = 0; i < N; i++)
        for (var j = 0; j < N; j++)
            sum += (before[i * Rows + r] - after[i * Rows + r]) * h[i, j] * (before[j * Rows + r] - after[j * Rows + r]);
        return sum;
    }

    private static double[,] Damped(double[] gram)
    {
        var (h, mean) = (new double[N, N], Enumerable.Range(0, N).Average(i => gram[i * N + i]));
        for (var i = 0; i < N; i++)
        for (var j = 0; j < N; j++)
            h[i, j] = gram[i * N + j] + (i == j ? 0.01 * mean : 0);
        return h;
    }

    private static (double[] Weights, double[] Gram) Problem(bool masked)
    {
        var random = new Random(5);
        var mix = Enumerable.Range(0, N * N).Select(i => (i / N == i % N ? 1 : 0) + 0.4 * NormalNumbers.Next(random)).ToArray();
        var gram = new double[N * N];
        for (var s = 0; s < 4 * N; s++)
        {
            var z = Enumerable.Range(0, N).Select(_ => NormalNumbers.Next(random)).ToArray();
            var x = Enumerable.Range(0, N).Select(i => Enumerable.Range(0, N).Sum(j => mix[i * N + j] * z[j])).ToArray();
            for (var i = 0; i < N; i++)
            for (var j = 0; j < N; j++)
                gram[i * N + j] += x[i] * x[j];
        }
        var weights = Enumerable.Range(0, N * Rows).Select(_ => NormalNumbers.Next(random)).ToArray();
        if (masked)
            for (var i = 0; i < weights.Length; i++)
                if (Math.Abs(weights[i]) < 0.4)
                    weights[i] = 0;
        return (weights, gram);
    }
}
