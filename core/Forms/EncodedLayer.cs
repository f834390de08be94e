using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>How a compressed weight stands in the model (core/docs/storage-forms.md).</summary>
public enum StorageForm
{
    /// <summary>
    /// Codes and scales decoded by a subgraph that ONNX Runtime folds to a plain weight at load. Any operator, any opset.
    /// </summary>
    Folded,

    /// <summary>One <c>com.microsoft.MatMulNBits</c> node in place of a MatMul or Gemm, with int8 arithmetic.</summary>
    MatMulNBits,

    /// <summary>One <c>com.microsoft.GatherBlockQuantized</c> node in place of a Gather: decodes only the rows looked up.</summary>
    GatherBlockQuantized,

    /// <summary>The weight in a shorter float type, cast back at load.</summary>
    Cast,

    /// <summary>int8 codes dequantized in front of an operator whose input and output are quantized too: an integer kernel.</summary>
    Qdq,

    /// <summary>int8 codes for an operator that rounds its input as it comes.</summary>
    Dynamic,

    /// <summary>The weight's own floats, some of them changed.</summary>
    Dense,

    /// <summary>Two matrices whose product stands for the weight: two operators in the place of one.</summary>
    Product,
}

/// <summary>A byte range of a shard.</summary>
public sealed record ShardRange(long Offset, long Length);

/// <summary>
/// A block-quantized weight: rows of <paramref name="BlocksPerRow"/> blocks of <paramref name="Block"/> codes, each
/// block with a scale and, when asymmetric, a zero point. The last block of a row may be padded with zero points.
/// </summary>
/// <param name="Form">How it stands in the model.</param>
/// <param name="Shape">The view of the weight that was encoded.</param>
/// <param name="Bits">Bits a code of one term: 1 to 8, or 16.</param>
/// <param name="Block">Codes that share a scale.</param>
/// <param name="BlocksPerRow">Blocks a row.</param>
/// <param name="Symmetric">Whether the zero point is fixed at the middle of the range; at one bit, codes mean −1 and +1.</param>
/// <param name="HalfScales">Scales stored as FLOAT16 rather than FLOAT.</param>
/// <param name="Codes">Packed codes in the shard, term by term, each plane by plane (<see cref="Numerics.BitPacking.Planes"/>).</param>
/// <param name="Scales">Scales in the shard, term by term.</param>
/// <param name="Zeros">Zero points in the shard; null when symmetric, or when codes count from 0.</param>
/// <param name="RelativeError">‖w − ŵ‖ / ‖w‖ (Frobenius).</param>
/// <param name="Nonzero">Weights that are not zero after decoding.</param>
public sealed record EncodedLayer(
    StorageForm Form,
    LayerShape Shape,
    int Bits,
    int Block,
    int BlocksPerRow,
    bool Symmetric,
    bool HalfScales,
    ShardRange Codes,
    ShardRange Scales,
    ShardRange? Zeros,
    double RelativeError,
    long Nonzero
)
{
    /// <summary>A layer of floats without scales: dense, cast, or the factors of a product.</summary>
    /// <param name="form">How it stands in the model.</param>
    /// <param name="shape">The view of the weight that was encoded.</param>
    /// <param name="bits">Bits a float.</param>
    /// <param name="bytes">Bytes from the start of the shard.</param>
    /// <param name="error">‖w − ŵ‖ / ‖w‖ (Frobenius).</param>
    /// <param name="nonzero">Weights that are not zero after decoding.</param>
    public static EncodedLayer OfFloats(StorageForm form, LayerShape shape, int bits, long bytes, double error, long nonzero) =>
        new(form, shape, bits, 1, 1, true, false, new ShardRange(0, bytes), new ShardRange(bytes, 0), null, error, nonzero);

    /// <summary>The weight is the sum of this many terms, each with codes and scales of its own (residual binarisation).</summary>
    public int Terms { get; init; } = 1;

    /// <summary>Zero points are FLOAT16 numbers; else one byte each (packed like codes where a kernel reads them).</summary>
    public bool HalfZeros { get; init; }

    /// <summary>ONNX element type of a weight that was cast; 0 for codes.</summary>
    public int CastType { get; init; }

    /// <summary>Columns of the first of two factors; 0 where the weight is not a product.</summary>
    public int Rank { get; init; }

    /// <summary>Why the method asked for was not used and what was in its place, or null.</summary>
    public string? Fallback { get; init; }

    /// <summary>
    /// Mean squared error of the layer's outputs over the calibration's rows, Σ ‖(w − ŵ)·x‖² / rows; null when not known.
    /// </summary>
    public double? OutputError { get; init; }

    /// <summary>
    /// What the layer's input, channel by channel, or the decoded weight is to be multiplied by: FLOAT16 in a folded layer, else FLOAT.
    /// Null for nothing.
    /// </summary>
    public ShardRange? InputFactors { get; init; }

    /// <summary>Codes a row, padding included.</summary>
    public long PaddedAxis => (long)Block * BlocksPerRow;

    /// <summary>Bits of codes a weight.</summary>
    public int BitsPerWeight => Bits * Terms;

    /// <summary>Bytes of codes, scales and zero points.</summary>
    public long Bytes => Codes.Length + Scales.Length + (Zeros?.Length ?? 0) + (InputFactors?.Length ?? 0);
}
