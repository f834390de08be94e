using System.Runtime.InteropServices;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Round to nearest on a uniform grid (Jacob et al. 2018, eq. 1).</summary>
/// <param name="bits">Bits a code: 2 to 8, or 16.</param>
/// <param name="symmetric">No zero points.</param>
/// <param name="biased">Store symmetric codes as unsigned, 2^(b−1) up; else as two's complement (8 bits).</param>
/// <param name="half">Scales are FLOAT16.</param>
/// <param name="search">How scales are found.</param>
internal sealed class UniformRounding(int bits, bool symmetric, bool biased, bool half, ScaleSearch search) : BlockRounding
{
    private readonly int bias = symmetric && biased ? 1 << (bits - 1) : 0;
    private readonly (int Low, int High) range = BlockScale.Range(bits, symmetric);

    public override int Bits => bits;

    public override bool Symmetric => symmetric;

    public override bool Half => half;

    public override ZeroPoints Zeros => symmetric ? ZeroPoints.None : ZeroPoints.Codes;

    public override RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales)
    {
        var found = BlockScale.Find(weights, bits, symmetric, search, half, out var error);
        scales[0] = found.Scale;
        return bits == 16 ? Wide(weights, found.Scale, MemoryMarshal.Cast<byte, short>(codes)) : With(weights, found, error, codes);
    }

    /// <summary>Rounds with a given scale.</summary>
    internal RoundedBlock With(ReadOnlySpan<float> weights, BlockScale found, Span<byte> codes) =>
        With(weights, found, Rounding.SquaredError(weights, found.Scale, found.Zero, range.Low, range.High), codes);

    private RoundedBlock With(ReadOnlySpan<float> weights, BlockScale found, double error, Span<byte> codes)
    {
        var zero = found.Zero + bias;
        Rounding.Quantize(weights, found.Scale, zero, range.Low + bias, range.High + bias, codes);
        codes[weights.Length..].Fill((byte)zero);
        return new RoundedBlock(found.Zero, error, found.Scale == 0 ? 0 : weights.Length - codes[..weights.Length].Count((byte)zero));
    }

    internal static RoundedBlock Wide(ReadOnlySpan<float> weights, float scale, Span<short> codes)
    {
        double error = 0;
        long nonzero = 0;
        for (var i = 0; i < weights.Length; i++)
        {
            codes[i] = (short)Rounding.Quantize(weights[i], scale, 0, -short.MaxValue, short.MaxValue);
            var d = weights[i] - (double)codes[i] * scale;
            error += d * d;
            if (codes[i] != 0)
                nonzero++;
        }
        codes[weights.Length..].Clear();
        return new RoundedBlock(0, error, nonzero);
    }
}
