using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Rounds the blocks of one layer, packs their codes, keeps their scales and tallies the error.</summary>
/// <param name="shape">The layer.</param>
/// <param name="block">Codes a block.</param>
/// <param name="rounding">How a block is rounded.</param>
internal sealed class BlockEncoder(LayerShape shape, int block, BlockRounding rounding)
{
    private readonly int width = rounding.Bits > 8 ? rounding.Bits / 8 : 1;
    private readonly float[] blockScales = new float[rounding.Terms];
    private readonly long count = shape.Rows * ((shape.Axis + block - 1) / block);
    private const float SmallestNormalHalf = 6.103515625e-5f,
        LargeHalf = 1f / 256;
    private float largestScale;
    private bool subnormal;
    private double error,
        squares;

    public int Block => block;

    public BlockRounding Rounding => rounding;

    public int BlocksPerRow { get; } = checked((int)((shape.Axis + block - 1) / block));

    public long PaddedAxis => (long)BlocksPerRow * block;

    /// <summary>Codes of one term.</summary>
    public long TermCodes => shape.Rows * PaddedAxis;

    public long CodeBytes => rounding.Terms * BitPacking.PlaneBytes(TermCodes, rounding.Bits);

    /// <summary>Whether whole rows can be written one after another: one term in one plane.</summary>
    public bool Streams => rounding.Terms == 1 && BitPacking.Planes(rounding.Bits).Length == 1;

    /// <summary>Scales, term by term.</summary>
    public float[] Scales { get; } = new float[checked((int)(rounding.Terms * shape.Rows * ((shape.Axis + block - 1) / block)))];

    public float[]? Zeros { get; } =
        rounding.Zeros == ZeroPoints.None ? null : new float[checked((int)(shape.Rows * ((shape.Axis + block - 1) / block)))];

    public long Nonzero { get; private set; }

    public double RelativeError => squares == 0 ? 0 : Math.Sqrt(error / squares);

    /// <summary>
    /// Whether the scales can stay FLOAT16: those below its normal range are off by up to 2⁻²⁵, which is nothing beside
    /// scales of 2⁻⁸ and more, and much where all are small.
    /// </summary>
    public bool Suits => !subnormal || largestScale >= LargeHalf;

    /// <summary>Encodes whole rows that start on a byte; returns the bytes written to <paramref name="packed"/>.</summary>
    public int Encode(ReadOnlySpan<float> rows, int count, int axis, long firstRow, Span<byte> packed)
    {
        var codes = new byte[checked((int)(count * PaddedAxis * width))];
        for (var r = 0; r < count; r++)
        for (var b = 0; b < BlocksPerRow; b++)
        {
            var length = Math.Min(block, axis - b * block);
            One(
                rows.Slice(r * axis + b * block, length),
                (firstRow + r) * BlocksPerRow + b,
                codes.AsSpan(((int)(r * PaddedAxis) + b * block) * width, block * width)
            );
        }
        if (width == 1)
            BitPacking.Pack(codes, rounding.Bits, packed);
        else
            codes.CopyTo(packed);
        return (int)BitPacking.Bytes(codes.Length / width, rounding.Bits);
    }

    /// <summary>Encodes one block of one row into its places among all codes.</summary>
    /// <param name="weights">The block.</param>
    /// <param name="row">Its row.</param>
    /// <param name="index">Its place in the row.</param>
    /// <param name="scratch">Holds <c>Terms × Block</c> codes.</param>
    /// <param name="codes">All codes of the layer, packed; zero where nothing was encoded yet.</param>
    public void EncodeBlock(ReadOnlySpan<float> weights, long row, int index, Span<byte> scratch, Span<byte> codes)
    {
        var at = row * PaddedAxis + (long)index * block;
        if (width > 1)
        {
            One(weights, row * BlocksPerRow + index, codes.Slice((int)(at * width), block * width));
            return;
        }
        scratch = scratch[..(rounding.Terms * block)];
        One(weights, row * BlocksPerRow + index, scratch);
        Pack(scratch, at, codes);
    }

    /// <summary>Takes a block that was rounded elsewhere.</summary>
    /// <param name="weights">What its codes stand for.</param>
    /// <param name="scale">Its scale.</param>
    /// <param name="rounded">Its zero point and error.</param>
    /// <param name="row">Its row.</param>
    /// <param name="index">Its place in the row.</param>
    /// <param name="blockCodes">Its codes, one a byte.</param>
    /// <param name="codes">All codes of the layer, packed.</param>
    public void Put(
        ReadOnlySpan<float> weights,
        float scale,
        RoundedBlock rounded,
        long row,
        int index,
        ReadOnlySpan<byte> blockCodes,
        Span<byte> codes
    )
    {
        blockScales[0] = scale;
        Note(weights, row * BlocksPerRow + index, rounded);
        Pack(blockCodes, row * PaddedAxis + (long)index * block, codes);
    }

    private void Pack(ReadOnlySpan<byte> scratch, long at, Span<byte> codes)
    {
        long start = 0;
        for (var t = 0; t < rounding.Terms; t++)
            foreach (var (bits, shift) in BitPacking.Planes(rounding.Bits))
            {
                BitPacking.PackAt(scratch.Slice(t * block, block), shift, bits, at, codes[(int)start..]);
                start += BitPacking.Bytes(TermCodes, bits);
            }
    }

    private void One(ReadOnlySpan<float> weights, long index, Span<byte> codes)
    {
        Note(weights, index, rounding.Round(weights, codes, blockScales));
    }

    private void Note(ReadOnlySpan<float> weights, long index, RoundedBlock rounded)
    {
        for (var t = 0; t < blockScales.Length; t++)
        {
            Scales[t * count + index] = blockScales[t];
            var magnitude = MathF.Abs(blockScales[t]);
            largestScale = MathF.Max(largestScale, magnitude);
            subnormal |= rounding.Half && magnitude < SmallestNormalHalf;
        }
        if (Zeros is not null)
            Zeros[index] = rounded.Zero;
        squares += Numerics.Rounding.SumOfSquares(weights);
        error += rounded.SquaredError;
        Nonzero += rounded.Nonzero;
    }
}
