using System.Text.Json.Serialization;
using Serverless.Core.Model;

namespace Serverless.Core.Grids;

/// <summary>
/// Another grid's weights, multiplied channel of the input by channel, as AWQ divides what it has scaled before rounding.
/// </summary>
/// <param name="Inner">The other grid.</param>
/// <param name="Factors">One a channel of the input: FLOAT16 where the weight is decoded at load, FLOAT where a node scales the
/// input.</param>
public sealed record ScaledGrid(Grid Inner, ShardNumbers Factors) : Grid
{
    /// <inheritdoc/>
    [JsonIgnore]
    public override int BitsPerWeight => Inner.BitsPerWeight;

    /// <inheritdoc/>
    [JsonIgnore]
    public override int GroupSize => Inner.GroupSize;

    /// <inheritdoc/>
    [JsonIgnore]
    public override long Bytes => Inner.Bytes + Factors.Range.Length;

    /// <inheritdoc/>
    public override double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape)
    {
        var weights = Inner.Decode(symbols, shard, shape);
        var factors = Factors.Read(shard);
        // Elements of a convolution's kernel share their channel's.
        var each = shape.Axis / factors.Length;
        for (long i = 0; i < weights.Length; i++)
            weights[i] *= factors[i % shape.Axis / each];
        return weights;
    }
}
