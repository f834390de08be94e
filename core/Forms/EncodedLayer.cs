using System.Text.Json.Serialization;
using Serverless.Core.Grids;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>An encoded weight: symbols in a shard, their meaning, and the form in which they are to lie in the file.</summary>
/// <param name="Form">Name of the form (<see cref="Forms.Form.Name"/>).</param>
/// <param name="Shape">The view of the weight that was encoded.</param>
/// <param name="Grid">What the symbols mean.</param>
/// <param name="Codes">The symbols in the shard, as the form wants them.</param>
/// <param name="RelativeError">‖w − ŵ‖ / ‖w‖ (Frobenius).</param>
/// <param name="Nonzero">Weights that are not zero after decoding.</param>
public sealed record EncodedLayer(string Form, LayerShape Shape, Grid Grid, ShardRange Codes, double RelativeError, long Nonzero)
{
    /// <summary>Rank of the product that stands for the weight; 0 where it is one matrix.</summary>
    public int Rank { get; init; }

    /// <summary>The factors of the product that stands for the weight, the one that the input meets first; none where it is one.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<ProductFactor> Factors
    {
        get => field ?? [];
        init;
    }

    /// <summary>Why the method asked for was not used and what was in its place, or null.</summary>
    public string? Fallback { get; init; }

    /// <summary>Whether the weights that are left make up for those that were set to zero.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool IsCompensated { get; init; }

    /// <summary>Whether the errors are those against the weight before it was masked (<c>LayerWork.Unmasked</c>).</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool OfUnmasked { get; init; }

    /// <summary>
    /// Mean squared error of the layer's outputs over the calibration's rows, Σ ‖(w − ŵ)·x‖² / rows; null when not known.
    /// </summary>
    public double? OutputError { get; init; }

    /// <summary>Which symbols are stored, in a sparse form; null where all are.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public SparseCodes? Sparse { get; init; }

    /// <summary>
    /// Whether symbols of 3, 5, 6 or 7 bits lie whole in bytes, to be coded at their entropy, and not in planes of bits.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool WholeSymbols { get; init; }

    /// <summary>Bytes of symbols, their places and grid.</summary>
    [JsonIgnore]
    public long Bytes => Codes.Length + (Sparse?.Mask.Length ?? 0) + Grid.Bytes;

    /// <summary>A layer of floats, from the start of the shard: dense, cast, or the factors of a product.</summary>
    /// <param name="form">Name of the form.</param>
    /// <param name="shape">The view of the weight that was encoded.</param>
    /// <param name="dataType">ONNX element type.</param>
    /// <param name="bytes">Bytes from the start of the shard.</param>
    /// <param name="error">‖w − ŵ‖ / ‖w‖ (Frobenius).</param>
    /// <param name="nonzero">Weights that are not zero after decoding.</param>
    public static EncodedLayer OfFloats(string form, LayerShape shape, int dataType, long bytes, double error, long nonzero) =>
        new(form, shape, new FloatGrid(dataType), new ShardRange(0, bytes), error, nonzero);
}
