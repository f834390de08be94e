using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// int8 codes with a scale a channel for integer kernels. The nodes around them depend on the rounding of activations, which the steps
/// behind
/// place; a layer that they leave is decoded at load.
/// </summary>
internal abstract class IntegerForm : Form
{
    /// <summary>
    /// Decodes a layer at load. Codes lie in the weight's own order, which is that of rows only where these are not columns.
    /// </summary>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        if (layer.Shape.Inner == 1)
            return Apply(
                edit,
                weight,
                layer with
                {
                    Form = layer.Sparse is { } sparse ? SparseForm.Of(sparse).Name : FormName.Folded,
                },
                shard
            );
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);
        var codes = Int8Codes.Add(graph, weight, layer, shard);
        var scales = graph.Constant("_s", Tensor(shard, ((AffineGrid)layer.Grid).Scales, layer.Shape.Rows));
        graph.Add("Mul", [graph.Cast(codes, DataType.Float), scales]);
        graph.Finish();
        return [weight.Value];
    }

    /// <summary>Decodes a layer whose codes lie in the order of the stored weight.</summary>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        var (shape, grid) = (layer.Shape, (AffineGrid)layer.Grid);
        var stored = layer.Sparse is null
            ? WholeSymbols.Read(shard[(int)layer.Codes.Offset..], grid, shape.Elements)
            : SparseForm.Symbols(layer, shard, grid, shape.Elements);
        var symbols = new int[stored.Length];
        for (long o = 0; o < shape.Outer; o++)
        for (long k = 0; k < shape.Axis; k++)
        for (long i = 0; i < shape.Inner; i++)
            symbols[(o * shape.Inner + i) * shape.Axis + k] = stored[(o * shape.Axis + k) * shape.Inner + i];
        return grid.Decode(symbols, shard, shape);
    }
}

/// <summary>Behind DequantizeLinear, between activations in uint8.</summary>
internal sealed class QdqForm : IntegerForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Qdq;
}

/// <summary>For operators that round their input as it comes.</summary>
internal sealed class DynamicForm : IntegerForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Dynamic;
}
