using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Numerics;
using Serverless.Core.Onnx;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Options of <see cref="RoundToNearest"/>.</summary>
public sealed record RoundToNearestOptions
{
    /// <summary>Bits a weight.</summary>
    [Option("Bits a weight: 8 (default), 16, 4 or 2.", Values = [2, 4, 8, 16])]
    public int Bits { get; init; } = 8;

    /// <summary>Weights that share a scale; 0 for one scale a channel.</summary>
    [Option("Weights that share a scale: 'channel' or 16, 32, 64, 128, 256. Default 32; where MatMulNBits runs it, 64 at 8 and 2 bits.", Values = [0, 16, 32, 64, 128, 256], Word = "channel", WordValue = 0)]
    public int? Group { get; init; }

    /// <summary>No zero points.</summary>
    [Option("No zero points (default true).")]
    public bool Symmetric { get; init; } = true;

    /// <summary>Share of all weights, smallest layers first, that get twice the bits.</summary>
    [Option("Share of the weights, smallest layers first, that get twice the bits (default 0.05): the first convolutions and the depthwise ones, small and sensitive.", Min = 0, Max = 1)]
    public double Protect { get; init; } = 0.05;

    /// <summary>How scales are found.</summary>
    [Option("How scales are found: absmax, mse (least squared error over clipped ranges), or auto (default): mse below 8 bits.")]
    public ScaleSearch Scale { get; init; } = ScaleSearch.Auto;
}

/// <summary>
/// Weight-only round to nearest (RTN), a scale per channel or per block: int8, int4, int2. Jacob et al. 2018,
/// "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", eq. 1; per-block
/// scales as in com.microsoft.MatMulNBits.
/// </summary>
public sealed class RoundToNearest : LayerTechnique
{
    private const int TileElements = 1 << 18;
    private const int HalfScalesFrom = 64;

    /// <inheritdoc/>
    public override string Step => "quantize";

    /// <inheritdoc/>
    public override string Method => "rtn";

    /// <inheritdoc/>
    public override string About => "Weight-only round to nearest, int8/int4/int2, a scale per channel or per block (Jacob et al. 2018, eq. 1).";

    /// <inheritdoc/>
    public override Type OptionsType => typeof(RoundToNearestOptions);

    /// <inheritdoc/>
    public override object? Gentler(object options)
    {
        var o = (RoundToNearestOptions)options;
        return o.Bits == 16 ? null : o with { Bits = o.Bits * 2 };
    }

    /// <inheritdoc/>
    public override double Protect(object options) => ((RoundToNearestOptions)options).Protect;

    /// <inheritdoc/>
    public override LayerPlan Plan(Weight weight, LayerShape shape, object options) =>
        BlockPlan.Of(weight, shape, (RoundToNearestOptions)options, HalfScalesFrom);

    /// <inheritdoc/>
    public override async Task<EncodedLayer> CompressAsync(
        WeightReader weight, LayerShape shape, LayerPlan plan, object options, Stream shard, CancellationToken cancellation)
    {
        var o = (RoundToNearestOptions)options;
        var rows = shape.Rows * ((shape.Axis + plan.Block - 1) / plan.Block);
        if (plan.Form == StorageForm.Folded && rows >= HalfScalesFrom)
        {
            try
            {
                return await EncodeAsync(weight, shape, plan, o, true, shard, cancellation);
            }
            catch (HalfRangeException)
            {
                shard.SetLength(0);
            }
        }
        return await EncodeAsync(weight, shape, plan, o, false, shard, cancellation);
    }

    private static async Task<EncodedLayer> EncodeAsync(
        WeightReader weight, LayerShape shape, LayerPlan plan, RoundToNearestOptions options, bool half, Stream shard, CancellationToken cancellation)
    {
        var symmetric = options.Symmetric || options.Bits == 16;
        var encoder = new BlockEncoder(shape, plan.Block, options.Bits, symmetric, plan.Form != StorageForm.Folded || options.Bits < 8, half,
            options.Scale == ScaleSearch.Auto ? (options.Bits < 8 ? ScaleSearch.Mse : ScaleSearch.Absmax) : options.Scale);
        if (shape.Inner == 1) await RowsAsync(weight, shape, encoder, shard, cancellation);
        else await ColumnsAsync(weight, shape, encoder, shard, cancellation);
        var codes = new ShardRange(0, encoder.CodeBytes);
        shard.Position = codes.Length;
        var scales = new ShardRange(codes.Length, encoder.Scales.Length * (half ? 2L : 4L));
        await shard.WriteAsync(half ? Halves(encoder.Scales) : MemoryMarshal.AsBytes(encoder.Scales.AsSpan()).ToArray(), cancellation);
        ShardRange? zeros = null;
        if (encoder.Zeros is { } z)
        {
            if (plan.Form != StorageForm.Folded) z = PackRows(z, encoder.BlocksPerRow, options.Bits);
            zeros = new ShardRange(scales.Offset + scales.Length, z.Length);
            await shard.WriteAsync(z, cancellation);
        }
        return new EncodedLayer(plan.Form, shape, options.Bits, plan.Block, encoder.BlocksPerRow, symmetric, half,
            codes, scales, zeros, encoder.RelativeError, encoder.Nonzero);
    }

    // Rows lie one after another: stream them through.
    private static async Task RowsAsync(WeightReader weight, LayerShape shape, BlockEncoder encoder, Stream shard, CancellationToken cancellation)
    {
        // A whole number of rows whose codes fill whole bytes.
        var perByte = Math.Max(1, 8 / encoder.Bits);
        var unit = encoder.PaddedAxis % perByte == 0 ? 1 : perByte;
        var step = Math.Max(unit, TileElements / shape.Axis / unit * unit);
        var count = (int)Math.Min(step, shape.Rows);
        var floats = ArrayPool<float>.Shared.Rent(checked((int)(count * shape.Axis)));
        var packed = ArrayPool<byte>.Shared.Rent((int)BitPacking.Bytes(count * encoder.PaddedAxis, encoder.Bits));
        try
        {
            for (long row = 0; row < shape.Rows; row += step)
            {
                var n = (int)Math.Min(step, shape.Rows - row);
                var tile = floats.AsMemory(0, (int)(n * shape.Axis));
                await weight.ReadAsync(row * shape.Axis, tile, cancellation);
                var bytes = encoder.Encode(tile.Span, n, (int)shape.Axis, row, 0, packed);
                await shard.WriteAsync(packed.AsMemory(0, bytes), cancellation);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
            ArrayPool<byte>.Shared.Return(packed);
        }
    }

    // A row is a column of the stored matrix: take slabs of whole blocks, transpose, and gather the codes in memory.
    private static async Task ColumnsAsync(WeightReader weight, LayerShape shape, BlockEncoder encoder, Stream shard, CancellationToken cancellation)
    {
        var (inner, block) = ((int)shape.Inner, encoder.Block);
        var slab = ArrayPool<float>.Shared.Rent(checked(block * inner));
        var turned = ArrayPool<float>.Shared.Rent(checked(block * inner));
        var codes = new byte[encoder.CodeBytes];
        var packed = ArrayPool<byte>.Shared.Rent((int)BitPacking.Bytes((long)block * inner, 8));
        try
        {
            for (long outer = 0; outer < shape.Outer; outer++)
            {
                for (var b = 0; b < encoder.BlocksPerRow; b++)
                {
                    var depth = (int)Math.Min(block, shape.Axis - (long)b * block);
                    await weight.ReadAsync((outer * shape.Axis + (long)b * block) * inner, slab.AsMemory(0, depth * inner), cancellation);
                    Transposition.Transpose(slab.AsSpan(0, depth * inner), inner, depth, inner, turned.AsSpan(0, depth * inner), depth);
                    encoder.EncodeBlocks(turned.AsSpan(0, depth * inner), inner, depth, outer * inner, b, packed, codes);
                }
            }
            await shard.WriteAsync(codes, cancellation);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(slab);
            ArrayPool<float>.Shared.Return(turned);
            ArrayPool<byte>.Shared.Return(packed);
        }
    }

    // The kernels read zero points packed like codes, each row on a byte of its own.
    private static byte[] PackRows(byte[] zeros, int blocks, int bits)
    {
        var stride = (int)BitPacking.Bytes(blocks, bits);
        var packed = new byte[zeros.Length / blocks * stride];
        for (var row = 0; row < zeros.Length / blocks; row++)
            BitPacking.Pack(zeros.AsSpan(row * blocks, blocks), bits, packed.AsSpan(row * stride, stride));
        return packed;
    }

    private static byte[] Halves(float[] scales)
    {
        var halves = new Half[scales.Length];
        TensorPrimitives.ConvertToHalf(scales, halves);
        return MemoryMarshal.AsBytes(halves.AsSpan()).ToArray();
    }
}
