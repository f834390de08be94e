using System.Text.Json.Serialization;
using Serverless.Core.Model;

namespace Serverless.Core.Grids;

/// <summary>
/// Weight = (symbol − zero point) · scale, with a scale and, when asymmetric, a zero point for each group of a row (Jacob et al. 2018,
/// eq. 1). The last group of a row may be padded.
/// </summary>
/// <param name="Bits">Bits a symbol: 1 to 8, or 16.</param>
/// <param name="Group">Symbols that share a scale.</param>
/// <param name="Groups">Groups a row.</param>
/// <param name="Symmetric">
/// Whether the zero point is the middle of the range; else symbols count from 0. Of one bit, symmetric symbols mean −1 and +1.
/// </param>
/// <param name="Scales">One a group, row by row.</param>
/// <param name="Zeros">Zero points: FLOAT16, or UINT8, which a kernel's form packs like symbols; null for none.</param>
public sealed record AffineGrid(int Bits, int Group, int Groups, bool Symmetric, ShardNumbers Scales, ShardNumbers? Zeros) : Grid
{
    /// <inheritdoc/>
    [JsonIgnore]
    public override int BitsPerWeight => Bits;

    /// <inheritdoc/>
    [JsonIgnore]
    public override int GroupSize => Group;

    /// <inheritdoc/>
    [JsonIgnore]
    public override long Bytes => Scales.Range.Length + (Zeros?.Range.Length ?? 0);

    /// <summary>Symbols a row, padding included.</summary>
    [JsonIgnore]
    public long PaddedAxis => (long)Group * Groups;

    /// <summary>The symbol in the middle of the range when symmetric, which means zero; else 0.</summary>
    [JsonIgnore]
    public int Middle => Symmetric ? 1 << (Bits - 1) : 0;

    /// <summary>
    /// What a symbol means before the zero point is taken off: its own value, less the middle of the range when symmetric.
    /// </summary>
    /// <param name="symbol">The unsigned symbol.</param>
    public int Level(int symbol) => Symmetric && Bits == 1 ? 2 * symbol - 1 : symbol - Middle;

    /// <inheritdoc/>
    public override double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape)
    {
        var (scales, zeros) = (Scales.Read(shard), Zeros?.Read(shard));
        var weights = new double[shape.Elements];
        for (long row = 0, i = 0; row < shape.Rows; row++)
        for (var k = 0; k < shape.Axis; k++, i++)
        {
            var group = row * Groups + k / Group;
            weights[i] = (Level(symbols[(int)(row * PaddedAxis + k)]) - (zeros?[group] ?? 0)) * scales[group];
        }
        return weights;
    }
}
