using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>GPTQ against the paper's algorithm 1, written out column by column in double precision.</summary>
public class GptqTests
{
    [Theory]
    [InlineData(4, true, 32, true, true)]
    [InlineData(4, true, 32, false, false)]
    [InlineData(3, false, 64, false, false)]
    [InlineData(2, false, 32, true, true)]
    [InlineData(8, true, 128, false, false)]
    [InlineData(4, false, 300, false, true)]
    [InlineData(3, true, 256, false, false)]
    public void Codes_are_those_of_the_paper_s_algorithm(int bits, bool symmetric, int group, bool byMagnitude, bool fixedScales)
    {
        const int N = 300,
            Rows = 24;
        var (weights, gram) = Problem(N, Rows, seed: bits * 100 + group);
        var how = new GptqRounding(bits, symmetric, group, fixedScales, ScaleSearch.Mse, Half: false);
        var hessian = Hessian.Of((double[])gram.Clone(), byMagnitude, 0.01, 1, CancellationToken.None)!;
        var solved = GptqSolver.Solve((double[])weights.Clone(), Rows, hessian.Factor, hessian.Order, how, CancellationToken.None);
        var (codes, error) = Reference(weights, gram, N, Rows, hessian.Order, how, 0.01);
        Assert.Equal(codes, solved.Codes.Select(c => (int)c));
        Assert.Equal(error, solved.SquaredError, error * 1e-9);
    }

    [Fact]
    public void The_factor_times_its_transpose_is_the_matrix()
    {
        foreach (var n in new[] { 1, 5, 127, 128, 129, 300 })
        {
            var (_, gram) = Problem(n, 1, n);
            var order = Enumerable.Range(0, n).OrderBy(i => i * 7919 % n).Distinct().ToArray();
            var factor = CholeskyFactor.Of(gram, order, 0.5, CancellationToken.None)!;
            var m = new double[n, n];
            for (var c = 0; c < n; c++)
            {
                var column = new double[c];
                factor.CopyColumn(c, 0, c, 1, column, 1);
                for (var r = 0; r < c; r++)
                    m[r, c] = column[r];
                m[c, c] = factor.Diagonal(c);
            }
            for (var i = 0; i < n; i++)
            for (var j = 0; j < n; j++)
            {
                var sum = 0.0;
                for (var k = Math.Max(i, j); k < n; k++)
                    sum += m[i, k] * m[j, k];
                Assert.Equal(gram[order[i] * n + order[j]] + (i == j ? 0.5 : 0), sum, 1e-8 * n);
            }
        }
    }

    [Fact]
    public void A_matrix_that_is_not_positive_definite_has_no_factor_until_it_is_damped()
    {
        var gram = new double[] { 1, 2, 2, 1 };
        Assert.Null(CholeskyFactor.Of(gram, [0, 1], 0, CancellationToken.None));
        Assert.Null(Hessian.Of((double[])gram.Clone(), false, 0.01, 2, CancellationToken.None));
        Assert.NotNull(Hessian.Of((double[])gram.Clone(), false, 0.01, 4, CancellationToken.None));
        Assert.Null(Hessian.Of(new double[4], false, 0.01, 4, CancellationToken.None));
        Assert.Null(Hessian.Of([double.NaN, 0, 0, 1], false, 0.01, 4, CancellationToken.None));
    }

    // Independent inputs, so that the error on all there are is that of each column times its variance.
    [Fact]
    public void With_fewer_rows_than_columns_the_damping_keeps_errors_out_of_where_no_row_was()
    {
        const int N = 256,
            Rows = 16,
            Seen = 32;
        var random = new Random(9);
        double Normal() => NormalNumbers.Next(random);
        var weights = Enumerable.Range(0, N * Rows).Select(_ => (double)(float)(0.05 * Normal())).ToArray();
        var how = new GptqRounding(4, true, 32, true, ScaleSearch.Mse, Half: false);
        var nearest = Error(double.NaN, []);
        var gram = Gram(Seen);
        var (few, plain, shrunk) = (Hessian.Shrinkage(gram, Seen), Error(0.01, gram), Error(Hessian.Shrinkage(gram, Seen), gram));
        Assert.True(plain > 1.2 * nearest, $"{plain} {nearest}");
        Assert.True(shrunk < 1.05 * nearest, $"{shrunk} {nearest}");
        // The more rows, the less; the formula at a scaled identity is all that can be.
        Assert.True(Hessian.Shrinkage(Gram(64 * N), 64 * N) < few / 20);
        Assert.Equal(1000, Hessian.Shrinkage([3, 0, 0, 3], 10));
        // ρ = ((1 − 2/2)·68 + 100) / ((10 + 1 − 2/2)·(68 − 100/2)) = 5/9 of diag(2, 8) seen on ten rows.
        Assert.Equal(5.0 / 4, Hessian.Shrinkage([2, 0, 0, 8], 10), 1e-12);

        double[] Gram(int samples)
        {
            var gram = new double[N * N];
            var x = new double[N];
            for (var s = 0; s < samples; s++)
            {
                for (var k = 0; k < N; k++)
                    x[k] = Normal() * Deviation(k);
                for (var i = 0; i < N; i++)
                    System.Numerics.Tensors.TensorPrimitives.MultiplyAdd(x, x[i], gram.AsSpan(i * N, N), gram.AsSpan(i * N, N));
            }
            return gram;
        }

        static double Deviation(int k) => 0.5 + k % 5;

        double Error(double damping, double[] gram)
        {
            var hessian = double.IsNaN(damping)
                ? Hessian.Unknown(new double[N * N], CancellationToken.None)
                : Hessian.Of((double[])gram.Clone(), true, damping, 1, CancellationToken.None)!;
            var solved = GptqSolver.Solve((double[])weights.Clone(), Rows, hessian.Factor, hessian.Order, how, CancellationToken.None);
            return Enumerable
                .Range(0, N * Rows)
                .Sum(at =>
                    Math.Pow(
                        Deviation(at / Rows)
                            * (
                                weights[at]
                                - (solved.Codes[at] - 8 - solved.Zeros[at / Rows / 32 * Rows + at % Rows])
                                    * (double)solved.Scales[at / Rows / 32 * Rows + at % Rows]
                            ),
                        2
                    )
                );
        }
    }

    private static (double[] Weights, double[] Gram) Problem(int n, int rows, int seed)
    {
        var random = new Random(seed);
        double Normal() => NormalNumbers.Next(random);
        var weights = new double[n * rows];
        for (var i = 0; i < weights.Length; i++)
            weights[i] = (float)(0.05 * Normal());
        var samples = 2 * n;
        var x = new double[samples, n];
        for (var s = 0; s < samples; s++)
        {
            var common = Normal();
            for (var k = 0; k < n; k++)
                x[s, k] = (Normal() + common) * (0.2 + k % 7);
        }
        var gram = new double[n * n];
        for (var i = 0; i < n; i++)
        for (var j = 0; j < n; j++)
        for (var s = 0; s < samples; s++)
            gram[i * n + j] += x[s, i] * x[s, j];
        return (weights, gram);
    }

    // Columns in `order`; Hinv = upper Cholesky factor of (H + λI)⁻¹; for each column i: q = quant(w_i),
    // e = (w_i − q) / Hinv_ii, w_j −= e · Hinv_ij for j > i.
    private static (int[] Codes, double Error) Reference(
        double[] weights,
        double[] gram,
        int n,
        int rows,
        int[] order,
        GptqRounding how,
        double damping
    )
    {
        var h = new double[n, n];
        var mean = Enumerable.Range(0, n).Average(i => gram[i * n + i]);
        for (var i = 0; i < n; i++)
        for (var j = 0; j < n; j++)
            h[i, j] = gram[order[i] * n + order[j]] + (i == j ? damping * mean : 0);
        var inverse = UpperCholesky(ReferenceInverse.Of(h), n);
        var w = new double[n, rows];
        for (var i = 0; i < n; i++)
        for (var r = 0; r < rows; r++)
            w[i, r] = weights[order[i] * rows + r];
        var (codes, error) = (new int[n * rows], 0.0);
        var (low, high) = BlockScale.Range(how.Bits, how.Symmetric);
        for (var r = 0; r < rows; r++)
        {
            var scales = new Dictionary<int, BlockScale>();
            for (var i = 0; i < n; i++)
            {
                var g = order[i] / how.Group;
                if (how.Static && !scales.ContainsKey(g))
                    scales[g] = Find(
                        Enumerable.Range(g * how.Group, Math.Min(how.Group, n - g * how.Group)).Select(k => weights[k * rows + r])
                    );
                else if (!how.Static && i % how.Group == 0)
                    scales[g] = Find(Enumerable.Range(i, Math.Min(how.Group, n - i)).Select(k => w[k, r]));
                double scale = scales[g].Scale,
                    zero = scales[g].Zero;
                var q = scale == 0 ? zero : Math.Clamp(Math.Round(w[i, r] / scale, MidpointRounding.ToEven) + zero, low, high);
                codes[order[i] * rows + r] = (int)q + (how.Symmetric ? 1 << (how.Bits - 1) : 0);
                var e = (w[i, r] - (q - zero) * scale) / inverse[i, i];
                error += e * e;
                for (var j = i + 1; j < n; j++)
                    w[j, r] -= e * inverse[i, j];
            }
        }
        return (codes, error);

        BlockScale Find(IEnumerable<double> values) =>
            BlockScale.Find([.. values.Select(v => (float)v)], how.Bits, how.Symmetric, how.Search, false, out _);
    }

    private static double[,] UpperCholesky(double[,] a, int n)
    {
        var u = new double[n, n];
        for (var i = 0; i < n; i++)
        for (var j = i; j < n; j++)
        {
            var sum = a[i, j];
            for (var k = 0; k < i; k++)
                sum -= u[k, i] * u[k, j];
            u[i, j] = i == j ? Math.Sqrt(sum) : sum / u[i, i];
        }
        return u;
    }
}
