using System.Text.Json.Serialization;
using Serverless.Core.Model;

namespace Serverless.Core.Grids;

/// <summary>
/// A symbol is the index of a codeword: a weight, or some that follow one another along a row. The last codeword of a row may reach past its
/// end. Rows that follow one another share a codebook (Han et al. 2016, "Deep Compression", section 3; Jégou et al. 2011, "Product
/// Quantization for Nearest Neighbor Search", section II).
/// </summary>
/// <param name="Bits">Bits of a symbol: 1 to 12.</param>
/// <param name="Dimension">Weights of a codeword.</param>
/// <param name="Entries">Codewords of a codebook, at most 2^bits.</param>
/// <param name="BookRows">Rows that share a codebook; all rows where there is one.</param>
/// <param name="Values">Codebook after codebook, codeword after codeword; null where all layers share one.</param>
public sealed record CodebookGrid(int Bits, int Dimension, int Entries, long BookRows, ShardNumbers? Values) : Grid
{
    /// <summary>The codebook that all layers share, which the file holds once; else null.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public float[]? Shared { get; init; }

    /// <summary>What the weights of each row are multiplied with, or null.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ShardNumbers? Scales { get; init; }

    /// <summary>Whether codeword 0 is zero and no other weight's than pruned ones.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool HasZero { get; init; }

    /// <summary>Bits of a symbol over the weights of a codeword, rounded up.</summary>
    [JsonIgnore]
    public override int BitsPerWeight => (Bits + Dimension - 1) / Dimension;

    /// <summary>Weights of a codeword.</summary>
    [JsonIgnore]
    public override int GroupSize => Dimension;

    /// <inheritdoc/>
    [JsonIgnore]
    public override long Bytes => (Values?.Range.Length ?? 0) + (Scales?.Range.Length ?? 0);

    /// <summary>Symbols of a row.</summary>
    public long Words(LayerShape shape) => (shape.Axis + Dimension - 1) / Dimension;

    /// <inheritdoc/>
    public override double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape)
    {
        var values = Values?.Read(shard) ?? Array.ConvertAll(Shared!, v => (double)v);
        var scales = Scales?.Read(shard);
        var (weights, words) = (new double[shape.Elements], Words(shape));
        for (long row = 0, i = 0; row < shape.Rows; row++)
        for (long k = 0; k < shape.Axis; k++, i++)
        {
            var word = row / BookRows * Entries + symbols[(int)(row * words + k / Dimension)];
            weights[i] = values[word * Dimension + k % Dimension] * (scales?[row] ?? 1);
        }
        return weights;
    }
}
