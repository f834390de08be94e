using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>Streams a weight through a <see cref="BlockEncoder"/> into a shard: codes, then scales, then zero points.</summary>
internal static class BlockEncoding
{
    private const int TileElements = 1 << 18;

    /// <summary>Encodes a layer.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="rounding">Makes the rounding for FLOAT16 scales or FLOAT ones.</param>
    /// <param name="shard">Receives the result.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> EncodeAsync(
        LayerWork work,
        Func<bool, BlockRounding> rounding,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var halves = rounding(true);
        if (
            Form.All[work.Plan.Form] is CodeForm { TakesHalfScales: true }
            && halves.Terms * work.Shape.Rows * ((work.Shape.Axis + work.Plan.Block - 1) / work.Plan.Block) >= CodeForm.HalfScalesFrom
        )
        {
            try
            {
                return await EncodeAsync(work, halves, shard, cancellation);
            }
            catch (HalfRangeException)
            {
                shard.SetLength(0);
            }
        }
        return await EncodeAsync(work, rounding(false), shard, cancellation);
    }

    private static async Task<EncodedLayer> EncodeAsync(
        LayerWork work,
        BlockRounding rounding,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (weight, shape, plan) = (work.Weight, work.Shape, work.Plan);
        var encoder = new BlockEncoder(shape, plan.Block, rounding);
        if (shape.Inner != 1)
            await ColumnsAsync(weight, shape, encoder, shard, cancellation);
        else
            await RowsAsync(weight, shape, encoder, shard, cancellation);
        if (!encoder.Suits)
            throw new HalfRangeException();
        return await FinishAsync(encoder, work, shard, cancellation);
    }

    /// <summary>Writes what follows the codes and describes the layer.</summary>
    public static async Task<EncodedLayer> FinishAsync(BlockEncoder encoder, LayerWork work, Stream shard, CancellationToken cancellation)
    {
        var (rounding, plan) = (encoder.Rounding, work.Plan);
        var codes = new ShardRange(0, encoder.CodeBytes);
        shard.Position = codes.Length;
        var scales = new ShardRange(codes.Length, encoder.Scales.Length * (rounding.Half ? 2L : 4L));
        await shard.WriteAsync(Numbers(encoder.Scales, rounding.Half), cancellation);
        ShardRange? zeros = null;
        if (encoder.Zeros is { } floats)
        {
            var bytes = rounding.Zeros == ZeroPoints.Halves ? Numbers(floats, true) : Bytes(floats);
            if (plan.Form != FormName.Folded)
                bytes = PackRows(bytes, encoder.BlocksPerRow, rounding.Bits);
            zeros = new ShardRange(scales.Offset + scales.Length, bytes.Length);
            await shard.WriteAsync(bytes, cancellation);
        }
        var grid = new AffineGrid(
            rounding.Bits,
            plan.Block,
            encoder.BlocksPerRow,
            rounding.Symmetric,
            new ShardNumbers(scales, (int)(rounding.Half ? DataType.Float16 : DataType.Float)),
            zeros is null ? null : new ShardNumbers(zeros, (int)(rounding.Zeros == ZeroPoints.Halves ? DataType.Float16 : DataType.Uint8))
        );
        return new EncodedLayer(
            plan.Form,
            work.Shape,
            rounding.Terms == 1 ? grid : new SumGrid(rounding.Terms, grid),
            codes,
            encoder.RelativeError,
            encoder.Nonzero
        );
    }

    // Rows lie one after another: stream them through, or gather their planes in memory when there are several.
    private static async Task RowsAsync(
        WeightReader weight,
        LayerShape shape,
        BlockEncoder encoder,
        Stream shard,
        CancellationToken cancellation
    )
    {
        // A whole number of rows whose codes fill whole bytes.
        var perByte = Math.Max(1, 8 / encoder.Rounding.Bits);
        var unit = encoder.PaddedAxis % perByte == 0 ? 1 : perByte;
        var step = Math.Max(unit, TileElements / shape.Axis / unit * unit);
        var count = (int)Math.Min(step, shape.Rows);
        var floats = ArrayPool<float>.Shared.Rent(checked((int)(count * shape.Axis)));
        var whole = encoder.Streams ? [] : new byte[encoder.CodeBytes];
        var packed = ArrayPool<byte>.Shared.Rent(
            (int)Math.Max(BitPacking.Bytes(count * encoder.PaddedAxis, encoder.Rounding.Bits), encoder.Rounding.Terms * encoder.Block)
        );
        try
        {
            for (long row = 0; row < shape.Rows; row += step)
            {
                var n = (int)Math.Min(step, shape.Rows - row);
                var tile = floats.AsMemory(0, (int)(n * shape.Axis));
                await weight.ReadAsync(row * shape.Axis, tile, cancellation);
                if (encoder.Streams)
                    await shard.WriteAsync(packed.AsMemory(0, encoder.Encode(tile.Span, n, (int)shape.Axis, row, packed)), cancellation);
                else
                    Blocks(encoder, tile.Span, n, (int)shape.Axis, row, packed, whole);
            }
            await shard.WriteAsync(whole, cancellation);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
            ArrayPool<byte>.Shared.Return(packed);
        }
    }

    private static void Blocks(
        BlockEncoder encoder,
        ReadOnlySpan<float> rows,
        int count,
        int axis,
        long firstRow,
        Span<byte> scratch,
        Span<byte> codes
    )
    {
        for (var r = 0; r < count; r++)
        for (var b = 0; b < encoder.BlocksPerRow; b++)
            encoder.EncodeBlock(
                rows.Slice(r * axis + b * encoder.Block, Math.Min(encoder.Block, axis - b * encoder.Block)),
                firstRow + r,
                b,
                scratch,
                codes
            );
    }

    // A row is a column of the stored matrix: take slabs of whole blocks, transpose, and gather the codes in memory.
    private static async Task ColumnsAsync(
        WeightReader weight,
        LayerShape shape,
        BlockEncoder encoder,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (inner, block) = ((int)shape.Inner, encoder.Block);
        var slab = ArrayPool<float>.Shared.Rent(checked(block * inner));
        var turned = ArrayPool<float>.Shared.Rent(checked(block * inner));
        var codes = new byte[encoder.CodeBytes];
        var scratch = ArrayPool<byte>.Shared.Rent(encoder.Rounding.Terms * block);
        try
        {
            for (long outer = 0; outer < shape.Outer; outer++)
            {
                for (var b = 0; b < encoder.BlocksPerRow; b++)
                {
                    var depth = (int)Math.Min(block, shape.Axis - (long)b * block);
                    await weight.ReadAsync((outer * shape.Axis + (long)b * block) * inner, slab.AsMemory(0, depth * inner), cancellation);
                    Transposition.Transpose(slab.AsSpan(0, depth * inner), inner, depth, inner, turned.AsSpan(0, depth * inner), depth);
                    for (var r = 0; r < inner; r++)
                        encoder.EncodeBlock(turned.AsSpan(r * depth, depth), outer * inner + r, b, scratch, codes);
                }
            }
            await shard.WriteAsync(codes, cancellation);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(slab);
            ArrayPool<float>.Shared.Return(turned);
            ArrayPool<byte>.Shared.Return(scratch);
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

    private static byte[] Bytes(float[] zeros)
    {
        var bytes = new byte[zeros.Length];
        for (var i = 0; i < bytes.Length; i++)
            bytes[i] = (byte)zeros[i];
        return bytes;
    }

    private static byte[] Numbers(float[] values, bool half)
    {
        if (!half)
            return MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
        var halves = new Half[values.Length];
        TensorPrimitives.ConvertToHalf(values, halves);
        return MemoryMarshal.AsBytes(halves.AsSpan()).ToArray();
    }
}
