using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques;

/// <summary>Sets to zero what is pruned of a weight's elements from an index on.</summary>
internal delegate void PrunePart(long first, Span<float> values);

/// <summary>A weight as it is stored, without the elements that are pruned.</summary>
internal static class MaskedCopy
{
    /// <summary>Writes the weight.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="prune">Sets to zero what is pruned of the elements from an index on, in the order of the weight.</param>
    /// <param name="shard">Receives the weight.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<EncodedLayer> WriteAsync(LayerWork work, PrunePart prune, Stream shard, CancellationToken cancellation)
    {
        var weight = work.Weight;
        var size = DataTypes.Bits(weight.DataType) / 8;
        var (before, after) = (new float[WeightReader.Whole / 2], new float[WeightReader.Whole / 2]);
        var (at, error, squares, nonzero) = (0L, 0.0, 0.0, 0L);
        await weight.ScanAsync(
            async (bytes, token) =>
            {
                Clear(bytes.Span);
                await shard.WriteAsync(bytes, token);
            },
            cancellation
        );
        var relative = squares == 0 ? 0 : Math.Sqrt(error / squares);
        return EncodedLayer.OfFloats(FormName.Dense, work.Shape, weight.DataType, weight.Elements * size, relative, nonzero);

        void Clear(Span<byte> bytes)
        {
            var count = bytes.Length / size;
            var values = before.AsSpan(0, count);
            var kept = after.AsSpan(0, count);
            FloatConversion.ToFloat(bytes, weight.DataType, values);
            values.CopyTo(kept);
            prune(at, kept);
            at += count;
            for (var i = 0; i < count; i++)
            {
                var square = (double)values[i] * values[i];
                squares += square;
                if (kept[i] != 0)
                    nonzero++;
                // A negative zero that is not pruned stays one.
                if (BitConverter.SingleToUInt32Bits(kept[i]) == BitConverter.SingleToUInt32Bits(values[i]))
                    continue;
                error += square;
                bytes.Slice(i * size, size).Clear();
            }
        }
    }
}
