using System.Buffers;
using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Activations;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>A 16-bit float type.</summary>
public enum HalfType
{
    /// <summary>IEEE 754 binary16: 11 bits of precision, up to 65,504.</summary>
    Float16,

    /// <summary>The upper half of a float: 8 bits of precision, float's range.</summary>
    Bfloat16,
}

/// <summary>Options of <see cref="HalfPrecision"/>.</summary>
public sealed record HalfPrecisionOptions
{
    /// <summary>Type that weights are stored in: float16 (default) or bfloat16 (opset 13 or later).</summary>
    public HalfType Type { get; init; } = HalfType.Float16;

    /// <summary>
    /// Let operators compute in float16 too, as GPUs do at twice the speed (default false); those that need float32 keep it. ONNX Runtime
    /// has no CPU kernels for bfloat16, and few for float16.
    /// </summary>
    public bool Compute { get; init; }

    /// <summary>With compute: samples to see on which layers' outputs are too large for float16 (default 32).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 32;
}

/// <summary>
/// Weights in 16-bit floats (IEEE 754-2019 binary16; bfloat16), rounded to nearest even, cast back to their own type at load: every
/// operator
/// computes in float32 as before, or in float16 where that is asked for (<see cref="Float16Conversion"/>). A layer with a weight
/// beyond ±65,504, or whose weights are too small to keep three digits of, falls back to bfloat16, and where the
/// opset has none, is refused.
/// </summary>
public sealed class HalfPrecision : Quantizer<HalfPrecisionOptions>
{
    private const int CastNode = 60,
        Chunk = 1 << 18;

    // The largest relative error of a bfloat16: what float16 makes of a layer of numbers near its smallest is worse.
    private const double MostError = 1.0 / 256;
    private const long Bfloat16Since = 13;

    /// <inheritdoc/>
    public override string Method => "float16";

    /// <inheritdoc/>
    public override string About => "Weights stored as float16 or bfloat16 and cast back at load; operators compute in float32.";

    /// <inheritdoc/>
    protected override string? WhyInvalid(HalfPrecisionOptions options) =>
        options is { Compute: true, Type: HalfType.Bfloat16 }
            ? "'compute: true' goes with 'type: float16': ONNX Runtime has no kernels for bfloat16 on processors"
            : null;

    /// <inheritdoc/>
    protected override Ladder Ladder(HalfPrecisionOptions options) =>
        Techniques.Ladder.From(new[] { options, options with { Compute = false } }.Distinct().Select(o => new Setting(this, o)));

    /// <inheritdoc/>
    protected override int Samples(HalfPrecisionOptions options) => options.Compute ? options.Samples : 0;

    /// <inheritdoc/>
    protected override IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, HalfPrecisionOptions options) =>
        options.Compute ? [new Setting(new ComputeFloat16(), new NoOptions())] : [];

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, HalfPrecisionOptions options) =>
        new(FormName.Cast, 16, 1, shape.Elements * 2 + CastNode, Chunk * 8) { Opset = weight.Scope.Opset };

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        HalfPrecisionOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var bfloats = work.Plan.Opset >= Bfloat16Since;
        var (type, fallback) =
            options.Type == HalfType.Bfloat16 && !bfloats
                ? (HalfType.Float16, "float16: bfloat16 needs opset 13")
                : (options.Type, (string?)null);
        var (made, flushed) = await EncodeAsync(work, type, shard, cancellation);
        var unfit =
            made is null ? "has weights beyond ±65504, too large for float16"
            : type == HalfType.Float16 && made.RelativeError > MostError ? "has weights below 6e-8, too small for float16"
            : null;
        if (unfit is not null && !bfloats)
            throw new LayerRefusedException($"{unfit}, and bfloat16 needs opset 13");
        if (unfit is not null)
        {
            shard.SetLength(0);
            (made, _) = await EncodeAsync(work, HalfType.Bfloat16, shard, cancellation);
            return made! with { Fallback = $"bfloat16: {unfit}" };
        }
        if (flushed > 0)
            fallback ??= $"float16, in which {flushed:N0} weights below 6e-8 are zero";
        return made! with { Fallback = fallback };
    }

    // Also how many weights became zero. No layer where a weight became infinite.
    private static async Task<(EncodedLayer? Layer, long Flushed)> EncodeAsync(
        LayerWork work,
        HalfType type,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var elements = work.Weight.Elements;
        var floats = ArrayPool<float>.Shared.Rent((int)Math.Min(elements, Chunk));
        var halves = new ushort[Math.Min(elements, Chunk)];
        double error = 0,
            squares = 0;
        long nonzero = 0,
            flushed = 0;
        try
        {
            for (long at = 0; at < elements; at += Chunk)
            {
                var part = floats.AsMemory(0, (int)Math.Min(Chunk, elements - at));
                await work.Weight.ReadAsync(at, part, cancellation);
                _ = BlockScale.Bounds(part.Span);
                if (!Convert(part.Span, type, halves, ref error, ref squares, ref nonzero))
                    return (null, 0);
                flushed += part.Length - part.Span.Count(0f);
                await shard.WriteAsync(MemoryMarshal.AsBytes(halves.AsSpan(0, part.Length)).ToArray(), cancellation);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
        }
        var relative = squares == 0 ? 0 : Math.Sqrt(error / squares);
        var stored = (int)(type == HalfType.Float16 ? DataType.Float16 : DataType.Bfloat16);
        return (EncodedLayer.OfFloats(FormName.Cast, work.Shape, stored, elements * 2, relative, nonzero), flushed - nonzero);
    }

    private static bool Convert(
        ReadOnlySpan<float> floats,
        HalfType type,
        Span<ushort> halves,
        ref double error,
        ref double squares,
        ref long nonzero
    )
    {
        for (var i = 0; i < floats.Length; i++)
        {
            float back;
            if (type == HalfType.Float16)
            {
                var half = (Half)floats[i];
                if (Half.IsInfinity(half))
                    return false;
                (halves[i], back) = (BitConverter.HalfToUInt16Bits(half), (float)half);
            }
            else
            {
                halves[i] = FloatConversion.ToBfloat16(floats[i]);
                back = BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
            }
            var d = (double)floats[i] - back;
            error += d * d;
            squares += (double)floats[i] * floats[i];
            if (back != 0)
                nonzero++;
        }
        return true;
    }
}
