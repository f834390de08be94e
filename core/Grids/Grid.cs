using System.Runtime.InteropServices;
using System.Text.Json.Serialization;
using Serverless.Core.Model;
using TensorType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Grids;

/// <summary>A byte range of a shard.</summary>
public sealed record ShardRange(long Offset, long Length)
{
    /// <summary>One of several parts of equal length.</summary>
    public ShardRange Part(int part, int parts) => new(Offset + Length / parts * part, Length / parts);
}

/// <summary>Numbers in a shard.</summary>
/// <param name="Range">Where they are.</param>
/// <param name="DataType">ONNX element type.</param>
public sealed record ShardNumbers(ShardRange Range, int DataType)
{
    /// <summary>Reads them from the bytes of a shard.</summary>
    public double[] Read(ReadOnlySpan<byte> shard)
    {
        var bytes = shard.Slice((int)Range.Offset, (int)Range.Length);
        return (TensorType)DataType switch
        {
            TensorType.Float => Array.ConvertAll(MemoryMarshal.Cast<byte, float>(bytes).ToArray(), v => (double)v),
            TensorType.Float16 => Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(bytes).ToArray(), v => (double)v),
            _ => Array.ConvertAll(bytes.ToArray(), v => (double)v),
        };
    }
}

/// <summary>
/// What the symbols of a layer mean. The floats of the layer follow from symbols and grid alone, however the symbols lie in the file
/// (<see cref="Forms.Form"/>).
/// </summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "grid")]
[JsonDerivedType(typeof(AffineGrid), "affine")]
[JsonDerivedType(typeof(SumGrid), "sum")]
[JsonDerivedType(typeof(ScaledGrid), "scaled")]
[JsonDerivedType(typeof(FloatGrid), "float")]
[JsonDerivedType(typeof(CodebookGrid), "codebook")]
public abstract record Grid
{
    /// <summary>Bits of all symbols of one weight.</summary>
    [JsonIgnore]
    public abstract int BitsPerWeight { get; }

    /// <summary>Weights that share numbers of the grid.</summary>
    [JsonIgnore]
    public abstract int GroupSize { get; }

    /// <summary>Bytes of the grid's own numbers, as scales are.</summary>
    [JsonIgnore]
    public abstract long Bytes { get; }

    /// <summary>Decodes a layer: the reference that forms are tested against.</summary>
    /// <param name="symbols">Symbols term by term, each with all rows of the view one after another, padded to whole groups.</param>
    /// <param name="shard">Bytes of the shard.</param>
    /// <param name="shape">The view of the weight.</param>
    /// <returns>The weights in the order of the view: rows × axis.</returns>
    public abstract double[] Decode(ReadOnlySpan<int> symbols, ReadOnlySpan<byte> shard, LayerShape shape);
}
