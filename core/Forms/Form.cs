using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// How the symbols of a layer lie in the file, and the nodes that make its floats of them or compute with them. Registers by existing:
/// one file (core/docs/storage-forms.md).
/// </summary>
public abstract class Form
{
    internal const string Microsoft = "com.microsoft";

    /// <summary>Every form, by name.</summary>
    public static IReadOnlyDictionary<string, Form> All { get; } =
        SubclassSearch
            .Of(typeof(Form).Assembly, typeof(Form))
            .Select(t => (Form)Activator.CreateInstance(t)!)
            .ToDictionary(f => f.Name, StringComparer.Ordinal);

    /// <summary>The form's name, as reports have it.</summary>
    public abstract string Name { get; }

    /// <summary>The oldest operator set that has the form's nodes: Mul, which decoding multiplies with, has no kernel before 7.</summary>
    public virtual long OldestOpset => 7;

    /// <summary>Puts a layer into the graph in place of its weight.</summary>
    /// <param name="edit">The edit of the model that <paramref name="weight"/> is from.</param>
    /// <param name="weight">The weight to replace.</param>
    /// <param name="layer">Its encoding.</param>
    /// <param name="shard">Store path of the shard.</param>
    /// <returns>Names of the values that stand for the weight: its own, or those of its factors.</returns>
    public abstract IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard);

    /// <summary>Decodes a layer of one matrix: the reference for the nodes.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="shard">Bytes of its shard.</param>
    /// <returns>The weights in the order of the layer's view: rows × axis.</returns>
    public virtual double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard) => layer.Grid.Decode([], shard, layer.Shape);

    /// <summary>Raises the operator set of a model to what the forms of some layers need, before any is put into the graph.</summary>
    public static void Prepare(ModelEdit edit, IEnumerable<EncodedLayer> layers)
    {
        if (layers.Any(l => l.Sparse is not null) && edit.Roots[0].Opset is >= OpsetRaise.Lowest and < SparseForm.Oldest)
            OpsetRaise.To11(edit);
    }

    /// <summary>Puts a layer into the graph in its form.</summary>
    public static IReadOnlyList<string> Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard) =>
        All[layer.Form].Place(edit, weight, layer, shard);

    /// <summary>A tensor whose bytes are a range of a shard.</summary>
    internal static TensorProto Tensor(string shard, ShardRange range, DataType type, params long[] dims)
    {
        var tensor = new TensorProto { DataType = (int)type };
        tensor.Dims.AddRange(dims);
        TensorRef.Point(tensor, ModelWriter.InStore(shard), range.Offset, range.Length);
        return tensor;
    }

    /// <summary>A tensor of numbers in a shard.</summary>
    internal static TensorProto Tensor(string shard, ShardNumbers numbers, params long[] dims) =>
        Tensor(shard, numbers.Range, (DataType)numbers.DataType, dims);
}

/// <summary>Names of the forms.</summary>
public static class FormName
{
    /// <summary>
    /// Symbols and scales decoded by a subgraph that ONNX Runtime folds to a plain weight at load. Any operator, any opset.
    /// </summary>
    public const string Folded = "Folded";

    /// <summary>One <c>com.microsoft.MatMulNBits</c> node in place of a MatMul or Gemm, with int8 arithmetic.</summary>
    public const string MatMulNBits = "MatMulNBits";

    /// <summary>One <c>com.microsoft.GatherBlockQuantized</c> node in place of a Gather: decodes only the rows looked up.</summary>
    public const string GatherBlockQuantized = "GatherBlockQuantized";

    /// <summary>The weight in a shorter float type, cast back at load.</summary>
    public const string Cast = "Cast";

    /// <summary>int8 codes dequantized in front of an operator whose input and output are quantized too: an integer kernel.</summary>
    public const string Qdq = "Qdq";

    /// <summary>int8 codes for an operator that rounds its input as it comes.</summary>
    public const string Dynamic = "Dynamic";

    /// <summary>The weight's own floats, some of them changed.</summary>
    public const string Dense = "Dense";

    /// <summary>Symbols or floats without the zeros, and a bitmap of their places; scattered at load.</summary>
    public const string Bitmap = "Bitmap";

    /// <summary>Symbols or floats without the zeros, and the gaps between them in a few bits each; scattered at load.</summary>
    public const string Gap = "Gap";

    /// <summary>Indices of codewords, looked up at load.</summary>
    public const string Codebook = "Codebook";

    /// <summary>Two matrices whose product stands for the weight: two operators in the place of one.</summary>
    public const string Product = "Product";

    /// <summary>Whether integer kernels read the codes of a form.</summary>
    public static bool IsInteger(string form) => form is Qdq or Dynamic;
}
