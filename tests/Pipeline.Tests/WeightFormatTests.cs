using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Reports;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// The weights that ONNX Runtime decodes, read off by giving the model the identity, against the papers' formulas in
/// double precision.
/// </summary>
public class WeightFormatTests
{
    private const int K = 192,
        N = 40;

    [Theory]
    [InlineData("scales: one, group: 64", 64)]
    [InlineData("scales: one, threshold: mean, group: 64", 64)]
    [InlineData("scales: two, group: 64", 64)]
    [InlineData("scales: one, group: channel", K)]
    public async Task Ternary_weights_are_those_of_the_paper(string options, int block)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var (decoded, _) = await DecodedAsync(folder, weights, $"method: ternary, {options}");
        foreach (var b in Blocks(block))
        {
            var w = b.Select(i => (double)weights[i]).ToArray();
            var expected = options.Contains("two", StringComparison.Ordinal)
                ? TwoSigns(w)
                : OneScale(w, options.Contains("mean", StringComparison.Ordinal) ? 0.7 * w.Average(Math.Abs) : null);
            AssertNear(expected, b.Select(i => (double)decoded[i]));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Binary_weights_are_signs_and_mean_magnitudes_and_residuals_of_them(int order)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var (decoded, layer) = await DecodedAsync(folder, weights, $"method: binary, group: 64, order: {order}");
        Assert.Equal(order, layer.Bits);
        double error = 0,
            greedy = 0;
        foreach (var b in Blocks(64))
        {
            var w = b.Select(i => (double)weights[i]).ToArray();
            var sum = new double[w.Length];
            for (var t = 0; t < order; t++)
            {
                var alpha = w.Select((v, i) => Math.Abs(v - sum[i])).Average();
                for (var i = 0; i < w.Length; i++)
                    sum[i] += w[i] - sum[i] >= 0 ? alpha : -alpha;
            }
            var found = b.Select(i => (double)decoded[i]).ToArray();
            Assert.True(found.Select(v => (float)v).Distinct().Count() <= 1 << order);
            if (order == 1)
                AssertNear(sum, found);
            error += w.Zip(found, (x, y) => (x - y) * (x - y)).Sum();
            greedy += w.Zip(sum, (x, y) => (x - y) * (x - y)).Sum();
        }
        Assert.True(error <= greedy * 1.0001, $"{error} after refitting, {greedy} before");
    }

    [Theory]
    [InlineData(8, "channel", K)]
    [InlineData(16, "channel", K)]
    [InlineData(8, "tensor", K * N)]
    public async Task Fixed_point_words_are_whole_multiples_of_a_power_of_two(int bits, string format, int unit)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var (decoded, _) = await DecodedAsync(folder, weights, $"method: fixed, bits: {bits}, format: {format}");
        foreach (
            var b in unit == K
                ? Blocks(K)
                :
                [
                    [.. Enumerable.Range(0, K * N)],
                ]
        )
        {
            var largest = b.Max(i => Math.Abs(weights[i]));
            var n = Math.Floor(Math.Log2(((1 << (bits - 1)) - 1) / (double)largest));
            double Squares(double fraction) => b.Sum(i => Math.Pow(weights[i] - Word(weights[i], fraction), 2));
            double Word(double w, double fraction) =>
                Math.Clamp(Math.Round(w * Math.Pow(2, fraction), MidpointRounding.ToEven), -(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1)
                / Math.Pow(2, fraction);
            if (bits == 8 && unit == K && Squares(n + 1) < Squares(n))
                n++;
            foreach (var i in b)
                Assert.Equal(Word(weights[i], n), decoded[i]);
        }
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(6)]
    public async Task Odd_widths_decode_to_the_grid_of_their_bits(int bits)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var sizes = new List<long>();
        foreach (var symmetric in new[] { "true", "false" })
        {
            var (decoded, layer) = await DecodedAsync(folder, weights, $"bits: {bits}, symmetric: {symmetric}, scale: absmax, group: 64");
            sizes.Add(layer.BytesAfter);
            foreach (var b in Blocks(64))
            {
                var (min, max) = (Math.Min(0, b.Min(i => weights[i])), Math.Max(0, b.Max(i => weights[i])));
                var extreme = -min > max ? min : max;
                double scale = (double)(Half)(symmetric == "true" ? -extreme / (1 << (bits - 1)) : (max - min) / ((1 << bits) - 1));
                var zero = symmetric == "true" ? 0 : Math.Round(-min / scale, MidpointRounding.ToEven);
                var (low, high) = symmetric == "true" ? (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) : (0, (1 << bits) - 1);
                AssertNear(
                    b.Select(i => (Math.Clamp(Math.Round(weights[i] / scale, MidpointRounding.ToEven) + zero, low, high) - zero) * scale),
                    b.Select(i => (double)decoded[i])
                );
            }
        }
        Assert.Equal(K * N * bits / 8 + K * N / 64 * 2, sizes[0]);
    }

    [Theory]
    [InlineData("float16", 13, 16)]
    [InlineData("bfloat16", 13, 16)]
    [InlineData("bfloat16", 9, 16)]
    public async Task Half_precision_rounds_to_nearest_even(string type, int opset, int bits)
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        var (decoded, layer) = await DecodedAsync(folder, weights, $"method: float16, type: {type}", opset);
        Assert.Equal((bits, K * N * 2L), (layer.Bits, layer.BytesAfter));
        Assert.Equal(type == "bfloat16" && opset < 13, layer.Fallback is not null);
        var drop = type == "bfloat16" && opset >= 13 ? 16 : 13;
        foreach (var (w, d) in weights.Zip(decoded))
        {
            if (Math.Abs(w) < 1e-4f)
                continue;
            var (b, half) = (BitConverter.SingleToUInt32Bits(w), 1u << (drop - 1));
            var kept = b & ~((1u << drop) - 1);
            var rest = b & ((1u << drop) - 1);
            if (rest > half || (rest == half && (kept >> drop & 1) != 0))
                kept += 1u << drop;
            Assert.Equal(BitConverter.UInt32BitsToSingle(kept), d);
        }
    }

    [Fact]
    public async Task Weights_too_large_for_float16_are_kept_in_bfloat16_and_the_report_says_so()
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        weights[5] = 1e6f;
        var (decoded, layer) = await DecodedAsync(folder, weights, "method: float16");
        Assert.StartsWith("bfloat16", layer.Fallback, StringComparison.Ordinal);
        Assert.Equal(1e6f, decoded[5], 1e6f / 256);
    }

    [Fact]
    public async Task Hqq_has_a_smaller_sparse_norm_error_than_rounding_to_nearest_at_the_same_size()
    {
        using var folder = new Folder();
        var weights = Random("w", K, N);
        foreach (var bits in new[] { 2, 3, 4 })
        {
            var (hqq, layer) = await DecodedAsync(folder, weights, $"method: hqq, bits: {bits}, group: 64");
            var (rtn, _) = await DecodedAsync(folder, weights, $"method: rtn, bits: {bits}, group: 64, symmetric: false, scale: absmax");
            double Norm(float[] decoded) => weights.Zip(decoded, (a, b) => Math.Pow(Math.Abs(a - b), 0.7)).Sum();
            Assert.True(Norm(hqq) < Norm(rtn), $"{bits} bits: {Norm(hqq)} and {Norm(rtn)}");
            Assert.Equal(bits, layer.Bits);
        }
    }

    [Theory]
    [InlineData("method: ternary", 2.3)]
    [InlineData("method: ternary, scales: two", 2.3, Explicit = true)]
    [InlineData("method: binary", 1.3)]
    [InlineData("method: binary, store: fast", 2.3, Explicit = true)]
    [InlineData("method: binary, order: 2", 2.6)]
    public async Task Packed_sizes_are_what_the_bits_say_on_real_models(string options, double most)
    {
        using var folder = new Folder();
        foreach (var name in RealModels.Ocr)
        {
            var done = await Compressed.RunAsync(
                folder,
                RealModels.File(name),
                $"version: 1\nsteps:\n- quantize: {{{options}, protect: 0}}\n"
            );
            var layers = done.Report.Layers.Where(l => l.Note is null).ToList();
            Assert.NotEmpty(layers);
            foreach (var l in layers.Where(l => l.Shape.Aggregate(1L, (a, b) => a * b) >= 4096))
                Assert.True(
                    l.BytesAfter * 8.0 / l.Shape.Aggregate(1L, (a, b) => a * b) <= most,
                    $"{name} {l.Name} {string.Join('x', l.Shape)}: {l.BytesAfter}"
                );
        }
    }

    [Theory]
    [InlineData("method: ternary", 2, 0.999)]
    [InlineData("method: binary, store: fast", 2, 0.999)]
    [InlineData("method: hqq, bits: 4", 4, 0.985)]
    public async Task Kernels_compute_with_the_decoded_weights(string options, int bits, double least)
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 4, 768)
            .Weight("w", 768, 704)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var kernel = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{{options}, protect: 0}}\n");
        Assert.Equal(("MatMulNBits", bits), (kernel.Report.Layers[0].Form, kernel.Report.Layers[0].Bits));
        // Transposed in the graph, the same weight cannot go to the kernel: it folds.
        var folded = OfOpset(13)
            .Input("x", DataType.Float, 4, 768)
            .Initializer(Tensor("w", Transposed(Random("w", 768, 704), 768, 704), 704, 768))
            .With(Node("Transpose", ["w"], ["t"]), Node("MatMul", ["x", "t"], ["y"]))
            .Output("y");
        var plain = await Compressed.RunAsync(
            folder,
            folded,
            $"version: 1\nsteps:\n- simplify: {{constants: false}}\n- quantize: {{{options}, protect: 0}}\n"
        );
        Assert.Equal("Folded", plain.Report.Layers[0].Form);
        var x = Random("x", 4, 768);
        var (a, b) = (Run(kernel.File, x, 4, 768), Run(plain.File, x, 4, 768));
        double dot = a.Zip(b, (p, q) => (double)p * q).Sum(),
            lengths = Math.Sqrt(a.Sum(p => (double)p * p) * b.Sum(q => (double)q * q));
        // The kernel rounds activations to int8, and hqq's zero points to codes.
        Assert.True(dot / lengths > least, $"{options}: {dot / lengths}");
    }

    private static float[] Transposed(float[] w, int rows, int columns)
    {
        var t = new float[w.Length];
        for (var r = 0; r < rows; r++)
        for (var c = 0; c < columns; c++)
            t[c * rows + r] = w[r * columns + c];
        return t;
    }

    private static double[] OneScale(double[] w, double? limit)
    {
        var sorted = w.Select(Math.Abs).OrderDescending().ToArray();
        var best = limit is { } l
            ? sorted.Count(v => v > l)
            : Enumerable.Range(1, w.Length).MaxBy(k => Math.Pow(sorted.Take(k).Sum(), 2) / k);
        if (best == 0)
            return new double[w.Length];
        var alpha = sorted.Take(best).Average();
        return [.. w.Select(v => Math.Abs(v) >= sorted[best - 1] ? Math.Sign(v) * alpha : 0)];
    }

    private static double[] TwoSigns(double[] w)
    {
        var positive = OneScale([.. w.Select(v => Math.Max(v, 0))], null);
        var negative = OneScale([.. w.Select(v => Math.Max(-v, 0))], null);
        return [.. positive.Zip(negative, (p, n) => p - n)];
    }

    private static IEnumerable<int[]> Blocks(int block)
    {
        for (var n = 0; n < N; n++)
        for (var k = 0; k < K; k += block)
            yield return [.. Enumerable.Range(k, block).Select(i => i * N + n)];
    }

    // Scales are FLOAT16: 11 bits.
    private static void AssertNear(IEnumerable<double> expected, IEnumerable<double> actual)
    {
        foreach (var (e, a) in expected.Zip(actual))
            Assert.True(Math.Abs(e - a) <= Math.Abs(e) * 0.0006 + 1e-7, $"{e} and {a}");
    }

    private static async Task<(float[] Weights, ReportLayer Layer)> DecodedAsync(
        Folder folder,
        float[] weights,
        string options,
        int opset = 13
    )
    {
        var model = OfOpset(opset)
            .Input("x", DataType.Float, K, K)
            .Initializer(Tensor("w", weights, K, N))
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        var protect = options.Contains("float16", StringComparison.Ordinal) ? "" : ", protect: 0";
        var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- quantize: {{{options}{protect}}}\n");
        var layer = Assert.Single(done.Report.Layers);
        Assert.Null(layer.Note);
        var identity = new float[K * K];
        for (var i = 0; i < K; i++)
            identity[i * K + i] = 1;
        return (Run(done.File, identity, K, K), layer);
    }

    private static float[] Run(string file, float[] x, params long[] shape)
    {
        using var session = new InferenceSession(file);
        using var input = OrtValue.CreateTensorValueFromMemory(x, shape);
        using var options = new RunOptions();
        using var outputs = session.Run(options, ["x"], [input], session.OutputNames);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }
}
