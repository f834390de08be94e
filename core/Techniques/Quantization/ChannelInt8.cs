using System.Buffers;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>
/// Symmetric int8 with a scale a channel, in the weight's own order: what integer kernels of ONNX Runtime take. One pass
/// for the scales, one for the codes.
/// </summary>
internal static class ChannelInt8
{
    private const int Chunk = 1 << 18;
    private const float LeastShare = 1f / (1 << 14);

    /// <summary>Encodes a weight.</summary>
    /// <param name="work">The layer; one of its view's Outer and Inner is 1.</param>
    /// <param name="largest">The largest code: 127, or 63 where the processor's 8-bit products saturate.</param>
    /// <param name="shard">Receives codes, then FLOAT scales.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> EncodeAsync(LayerWork work, int largest, Stream shard, CancellationToken cancellation)
    {
        var (shape, elements) = (work.Shape, work.Weight.Elements);
        var scales = new float[shape.Rows];
        var floats = ArrayPool<float>.Shared.Rent((int)Math.Min(elements, Chunk));
        var codes = new byte[Math.Min(elements, Chunk)];
        double errors = 0,
            squares = 0;
        long nonzero = 0;
        try
        {
            for (long at = 0; at < elements; at += Chunk)
            {
                var part = floats.AsMemory(0, (int)Math.Min(Chunk, elements - at));
                await work.Weight.ReadAsync(at, part, cancellation);
                _ = BlockScale.Bounds(part.Span);
                Widest(part.Span, at, shape, scales);
            }
            // A channel of (next to) nothing needs a scale in which its bias fits 32 bits.
            var least = scales.Max() * LeastShare;
            for (var c = 0; c < scales.Length; c++)
                scales[c] = least == 0 ? 1 : MathF.Max(scales[c], least) / largest;
            for (long at = 0; at < elements; at += Chunk)
            {
                var part = floats.AsMemory(0, (int)Math.Min(Chunk, elements - at));
                await work.Weight.ReadAsync(at, part, cancellation);
                Round(part.Span, at, shape, scales, largest, codes, ref errors, ref squares, ref nonzero);
                await shard.WriteAsync(codes.AsMemory(0, part.Length), cancellation);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
        }
        await shard.WriteAsync(MemoryMarshal.AsBytes(scales.AsSpan()).ToArray(), cancellation);
        var numbers = new ShardNumbers(new ShardRange(elements, scales.Length * 4L), (int)DataType.Float);
        var error = squares == 0 ? 0 : Math.Sqrt(errors / squares);
        var grid = new AffineGrid(8, work.Plan.Block, 1, true, numbers, null);
        return new EncodedLayer(work.Plan.Form, shape, grid, new ShardRange(0, elements), error, nonzero);
    }

    private static void Widest(ReadOnlySpan<float> values, long at, LayerShape shape, float[] largest)
    {
        for (var i = 0; i < values.Length; )
        {
            var (channel, run) = Run(at + i, values.Length - i, shape);
            if (shape.Inner == 1)
            {
                var (min, max) = Extremes.Of(values.Slice(i, run));
                largest[channel] = MathF.Max(largest[channel], MathF.Max(-min, max));
            }
            else
                for (var k = 0; k < run; k++)
                    largest[channel + k] = MathF.Max(largest[channel + k], MathF.Abs(values[i + k]));
            i += run;
        }
    }

    private static void Round(
        ReadOnlySpan<float> values,
        long at,
        LayerShape shape,
        float[] scales,
        int largest,
        Span<byte> codes,
        ref double error,
        ref double squares,
        ref long nonzero
    )
    {
        for (var i = 0; i < values.Length; )
        {
            var (channel, run) = Run(at + i, values.Length - i, shape);
            var part = values.Slice(i, run);
            if (shape.Inner == 1)
            {
                Rounding.Quantize(part, scales[channel], 0, -largest, largest, codes.Slice(i, run));
                error += Rounding.SquaredError(part, scales[channel], 0, -largest, largest);
            }
            else
            {
                for (var k = 0; k < run; k++)
                {
                    var q = Rounding.Quantize(part[k], scales[channel + k], 0, -largest, largest);
                    codes[i + k] = (byte)q;
                    var d = part[k] - (double)q * scales[channel + k];
                    error += d * d;
                }
            }
            squares += Rounding.SumOfSquares(part);
            nonzero += run - codes.Slice(i, run).Count((byte)0);
            i += run;
        }
    }

    // From an element on: its channel and how many elements lie in it, or in it and the channels after it, one each.
    private static (int Channel, int Run) Run(long element, int most, LayerShape shape)
    {
        var length = shape.Inner == 1 ? shape.Axis : shape.Inner;
        var (row, within) = Math.DivRem(element, length);
        return (shape.Inner == 1 ? (int)row : (int)within, (int)Math.Min(most, length - within));
    }
}
