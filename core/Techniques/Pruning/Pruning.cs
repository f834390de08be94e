using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Sets weights to zero in front of whatever rounds them; later steps keep them zero.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Pruning<TOptions> : LayerTechnique<TOptions>
    where TOptions : notnull, new()
{
    private const double Least = 0.01;

    /// <inheritdoc/>
    public override string Step => "prune";

    /// <inheritdoc/>
    public override bool Repeats => true;

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'prune' sets weights to zero before they are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    public override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Masked;

    /// <summary>Share of the weights that options set to zero.</summary>
    protected abstract double Sparsity(TOptions options);

    /// <summary>The options at half of their sparsity.</summary>
    protected abstract TOptions Halved(TOptions options);

    /// <inheritdoc/>
    protected override Ladder Ladder(TOptions options)
    {
        var rungs = new List<TOptions> { options };
        while (Sparsity(rungs[^1]) >= 2 * Least)
            rungs.Add(Halved(rungs[^1]));
        return Techniques.Ladder.From(rungs.Select(o => new Setting(this, o)));
    }

    /// <summary>Writes a weight as it is stored, without the elements that are pruned.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="prune">Sets to zero what is pruned of the elements from an index on, in the order of the weight.</param>
    /// <param name="shard">Receives the weight.</param>
    /// <param name="cancellation">Cancels the work.</param>
    private protected static async Task<EncodedLayer> WriteAsync(
        LayerWork work,
        PrunePart prune,
        Stream shard,
        CancellationToken cancellation
    )
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

    /// <summary>Sets to zero what is pruned of a weight's elements from an index on.</summary>
    private protected delegate void PrunePart(long first, Span<float> values);
}
