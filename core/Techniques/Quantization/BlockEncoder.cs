using System.Runtime.InteropServices;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Rounds the blocks of one layer, keeping their scales and tallying the error.</summary>
/// <param name="shape">The layer.</param>
/// <param name="block">Codes a block.</param>
/// <param name="bits">Bits a code.</param>
/// <param name="symmetric">No zero points.</param>
/// <param name="biased">Store symmetric codes as unsigned, 2^(b−1) up; else as two's complement (8 bits).</param>
/// <param name="half">Scales are FLOAT16.</param>
/// <param name="search">How scales are found.</param>
internal sealed class BlockEncoder(LayerShape shape, int block, int bits, bool symmetric, bool biased, bool half, ScaleSearch search)
{
    private readonly int bias = symmetric && biased ? 1 << (bits - 1) : 0;
    private readonly int width = bits > 8 ? bits / 8 : 1;
    private double error, squares;

    public int Block => block;

    public int Bits => bits;

    public int BlocksPerRow { get; } = checked((int)((shape.Axis + block - 1) / block));

    public long PaddedAxis => (long)BlocksPerRow * block;

    public long CodeBytes => BitPacking.Bytes(shape.Rows * PaddedAxis, bits);

    public float[] Scales { get; } = new float[checked((int)(shape.Rows * ((shape.Axis + block - 1) / block)))];

    public byte[]? Zeros { get; } = symmetric ? null : new byte[checked((int)(shape.Rows * ((shape.Axis + block - 1) / block)))];

    public long Nonzero { get; private set; }

    public double RelativeError => squares == 0 ? 0 : Math.Sqrt(error / squares);

    /// <summary>Encodes whole rows that start on a byte; returns the bytes written to <paramref name="packed"/>.</summary>
    public int Encode(ReadOnlySpan<float> rows, int count, int axis, long firstRow, int firstBlock, Span<byte> packed)
    {
        var codes = new byte[checked((int)(count * PaddedAxis * width))];
        for (var r = 0; r < count; r++)
            for (var b = firstBlock; b < BlocksPerRow; b++)
            {
                var length = Math.Min(block, axis - b * block);
                One(rows.Slice(r * axis + b * block, length), (firstRow + r) * BlocksPerRow + b, codes.AsSpan(((int)(r * PaddedAxis) + b * block) * width, block * width));
            }
        if (width == 1) BitPacking.Pack(codes, bits, packed);
        else codes.CopyTo(packed);
        return (int)BitPacking.Bytes(codes.Length / width, bits);
    }

    /// <summary>Encodes block <paramref name="index"/> of <paramref name="count"/> rows into their places among all codes.</summary>
    public void EncodeBlocks(ReadOnlySpan<float> blocks, int count, int depth, long firstRow, int index, Span<byte> scratch, Span<byte> codes)
    {
        if (width > 1)
        {
            for (var r = 0; r < count; r++)
                One(blocks.Slice(r * depth, depth), (firstRow + r) * BlocksPerRow + index, codes.Slice((int)((firstRow + r) * PaddedAxis + (long)index * block) * width, block * width));
            return;
        }
        var perByte = 8 / bits;
        var aligned = block % perByte == 0;
        for (var r = 0; r < count; r++)
        {
            var row = firstRow + r;
            var one = scratch[..block];
            One(blocks.Slice(r * depth, depth), row * BlocksPerRow + index, one);
            var at = row * PaddedAxis + (long)index * block;
            if (aligned) BitPacking.Pack(one, bits, codes[(int)(at / perByte)..]);
            else
                for (var i = 0; i < block; i++) codes[(int)((at + i) / perByte)] |= (byte)(one[i] << (int)((at + i) % perByte * bits));
        }
    }

    private void One(ReadOnlySpan<float> weights, long index, Span<byte> codes)
    {
        var (low, high) = BlockScale.Range(bits, symmetric);
        var found = BlockScale.Find(weights, bits, symmetric, search, half);
        Scales[index] = found.Scale;
        if (Zeros is not null) Zeros[index] = (byte)found.Zero;
        squares += Rounding.SumOfSquares(weights);
        var zero = found.Zero + bias;
        if (bits == 16)
        {
            Wide(weights, found.Scale, MemoryMarshal.Cast<byte, short>(codes));
            return;
        }
        Rounding.Quantize(weights, found.Scale, zero, low + bias, high + bias, codes);
        codes[weights.Length..].Fill((byte)zero);
        error += Rounding.SquaredError(weights, found.Scale, found.Zero, low, high);
        Nonzero += found.Scale == 0 ? 0 : weights.Length - codes[..weights.Length].Count((byte)zero);
    }

    private void Wide(ReadOnlySpan<float> weights, float scale, Span<short> codes)
    {
        for (var i = 0; i < weights.Length; i++)
        {
            codes[i] = (short)Rounding.Quantize(weights[i], scale, 0, -short.MaxValue, short.MaxValue);
            var d = weights[i] - (double)codes[i] * scale;
            error += d * d;
            if (codes[i] != 0) Nonzero++;
        }
    }
}
