using System.Text.Json.Serialization;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Grids;

/// <summary>A symbol is a float of its own, of the weight's type or a shorter one.</summary>
/// <param name="DataType">ONNX element type: FLOAT, DOUBLE, FLOAT16 or BFLOAT16.</param>
public sealed record FloatGrid(int DataType) : Grid
{
    /// <inheritdoc/>
    [JsonIgnore]
    public override int BitsPerWeight => DataTypes.Bits(DataType);

    /// <inheritdoc/>
    [JsonIgnore]
    public override int GroupSize => 1;

    /// <inheritdoc/>
    [JsonIgnore]
    public override long Bytes => 0;

    /// <summary>Symbols are the bits of 16-bit floats; longer ones are read from the shard's start.</summary>
    public override double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape)
    {
        var floats = new float[shape.Elements];
        FloatConversion.ToFloat(shard[..(int)(shape.Elements * BitsPerWeight / 8)], DataType, floats);
        return Array.ConvertAll(floats, v => (double)v);
    }
}
