using System.Text.Json.Serialization;
using Serverless.Core.Model;

namespace Serverless.Core.Grids;

/// <summary>The weight is the sum of terms, each with symbols and scales of its own, as in residual binarisation.</summary>
/// <param name="Terms">How many.</param>
/// <param name="All">The grid of the terms; its scales are those of all terms, term by term.</param>
public sealed record SumGrid(int Terms, AffineGrid All) : Grid
{
    /// <inheritdoc/>
    [JsonIgnore]
    public override int BitsPerWeight => Terms * All.Bits;

    /// <inheritdoc/>
    [JsonIgnore]
    public override int GroupSize => All.Group;

    /// <inheritdoc/>
    [JsonIgnore]
    public override long Bytes => All.Bytes;

    /// <summary>The grid of one term.</summary>
    public AffineGrid Term(int term) => All with { Scales = All.Scales with { Range = All.Scales.Range.Part(term, Terms) } };

    /// <inheritdoc/>
    public override double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape)
    {
        var sum = new double[shape.Elements];
        var each = symbols.Length / Terms;
        for (var t = 0; t < Terms; t++)
        {
            var term = Term(t).Decode(symbols.Slice(t * each, each), shard, shape);
            for (var i = 0; i < sum.Length; i++)
                sum[i] += term[i];
        }
        return sum;
    }
}
