using BenchmarkDotNet.Attributes;
using Serverless.Core.Numerics;

namespace Serverless.Benchmarks;

/// <summary>The quantizer's inner loops beside a copy of the same floats on the same core.</summary>
[InProcess, WarmupCount(3), IterationCount(8), MemoryDiagnoser(false)]
public class KernelBenchmarks
{
    private const int Rows = 2048,
        Columns = 4096;
    private readonly float[] weights = new float[Rows * Columns],
        copy = new float[Rows * Columns];
    private readonly byte[] codes = new byte[Rows * Columns],
        packed = new byte[Rows * Columns];

    [GlobalSetup]
    public void Setup()
    {
        var random = new Random(1);
        for (var i = 0; i < weights.Length; i++)
            weights[i] = (float)(random.NextDouble() - 0.5);
    }

    [Benchmark(Baseline = true)]
    public void Copy() => weights.AsSpan().CopyTo(copy);

    [Benchmark]
    public void Int8PerChannelByAbsoluteMaximum()
    {
        for (var r = 0; r < Rows; r++)
        {
            var row = weights.AsSpan(r * Columns, Columns);
            var (min, max) = Extremes.Of(row);
            Rounding.Quantize(row, MathF.Max(-min, max) / 127, 0, -127, 127, codes.AsSpan(r * Columns, Columns));
        }
    }

    [Benchmark]
    public void Int4PerBlockOf32ByAbsoluteMaximum()
    {
        for (var b = 0; b < weights.Length; b += 32)
        {
            var block = weights.AsSpan(b, 32);
            var (min, max) = Extremes.Of(block);
            Rounding.Quantize(block, -(-min > max ? min : max) / 8, 8, 0, 15, codes.AsSpan(b, 32));
        }
        BitPacking.Pack(codes, 4, packed);
    }

    [Benchmark]
    public void Transpose32() => Transposition.Transpose(weights.AsSpan(0, 32 * 65536), 65536, 32, 65536, copy, 32);
}
