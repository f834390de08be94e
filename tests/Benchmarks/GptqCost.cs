using System.Diagnostics;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Benchmarks;

/// <summary>
/// Seconds that GPTQ takes for one layer, and how many times those of the matrix products it consists of: n³/3 for the
/// factor and m·n² for the corrections, at the rate that ONNX Runtime's own product reaches here on the same day.
/// </summary>
internal static class GptqCost
{
    private const int Bits = 4,
        Group = 128;

    public static int Run(int n)
    {
        var random = new Random(1);
        var gram = new double[(long)n * n];
        var x = new double[(long)(n + 64) * n];
        for (var i = 0; i < x.Length; i++)
            x[i] = random.NextDouble() - 0.5;
        MatrixProduct.Multiply(1, x, true, x, false, null, gram, n, n + 64, n);
        var rate = Rate();
        foreach (
            var (byMagnitude, name) in new[] { (true, "activation order, static scales"), (false, "in order, scales of corrected weights") }
        )
        {
            var clock = Stopwatch.StartNew();
            var hessian = Hessian.Of(gram, byMagnitude, 0.01, 1, CancellationToken.None)!;
            var factored = clock.Elapsed;
            var how = new GptqRounding(Bits, Symmetric: true, Group, Static: byMagnitude, ScaleSearch.Mse, Half: false);
            const int Tile = 1024;
            for (var row = 0; row < n; row += Tile)
            {
                var tile = new double[(long)n * Tile];
                for (var i = 0; i < tile.Length; i++)
                    tile[i] = (float)(random.NextDouble() - 0.5);
                GptqSolver.Solve(tile, Tile, hessian.Factor, hessian.Order, how, CancellationToken.None);
            }
            var seconds = clock.Elapsed.TotalSeconds;
            var bound = (Math.Pow(n, 3) / 3 + Math.Pow(n, 3)) / rate;
            Console.WriteLine(
                $"GPTQ {n} x {n}, {Bits} bits, group {Group}, {name}: {seconds:0.00} s (factor {factored.TotalSeconds:0.00} s), {seconds / bound:0.00} times its products ({bound:0.00} s at {rate / 1e9:0} GFLOP/s in double)"
            );
        }
        return 0;
    }

    private static double Rate()
    {
        const int M = 2048;
        var (a, b, y) = (new double[M * M], new double[M * M], new double[M * M]);
        var random = new Random(2);
        for (var i = 0; i < a.Length; i++)
            (a[i], b[i]) = (random.NextDouble(), random.NextDouble());
        var best = double.PositiveInfinity;
        for (var r = 0; r < 6; r++)
        {
            var clock = Stopwatch.StartNew();
            MatrixProduct.Multiply(1, a, false, b, false, null, y, M, M, M);
            best = Math.Min(best, clock.Elapsed.TotalSeconds);
        }
        return 2.0 * M * M * M / best;
    }
}
