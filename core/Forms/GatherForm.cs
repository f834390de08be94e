using System.Numerics;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts <c>com.microsoft.GatherBlockQuantized</c> in the place of Gather over a large embedding (ONNX Runtime
/// ContribOperators.md). Only the rows looked up are decoded, at the cost of some microseconds a run; folding would
/// take the float table's memory, and several times that and most of the time while loading.
/// </summary>
internal sealed class GatherForm : KernelForm
{
    private const long PaysFrom = 1 << 20,
        SmallestBlock = 16;

    /// <inheritdoc/>
    public override string Name => FormName.GatherBlockQuantized;

    /// <inheritdoc/>
    public override long OldestOpset => 7;

    /// <inheritdoc/>
    public override bool TakesHalfScales => true;

    /// <summary>Whether a weight is an embedding that is large enough to be looked up in codes.</summary>
    public static bool IsLarge(Weight weight, LayerShape shape) => shape.Elements >= PaysFrom && IsTable(weight);

    /// <inheritdoc/>
    protected override bool Fits(Weight weight, LayerShape shape, CodeRequest request, int block) =>
        request.KernelBits is 4 or 8 && IsTable(weight) && shape.Axis % block == 0 && shape.Axis * request.KernelBits % 8 == 0;

    /// <inheritdoc/>
    protected override bool TakesChannels => true;

    /// <inheritdoc/>
    protected override bool Pays(LayerShape shape, CodeRequest request) => shape.Elements >= PaysFrom;

    /// <inheritdoc/>
    protected override double Time(bool pays) => 2;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        var grid = (AffineGrid)layer.Grid;
        edit.Import(Microsoft, 1);
        var (rows, axis) = (layer.Shape.Rows, layer.Shape.Axis);
        ModelEdit.RemoveDefinition(weight);
        var codes = edit.AddConstant(
            weight.Scope,
            weight.Value + "_q",
            Tensor(shard, layer.Codes, DataType.Uint8, rows, axis * grid.Bits / 8)
        );
        var scales = edit.AddConstant(weight.Scope, weight.Value + "_s", Tensor(shard, grid.Scales, rows, grid.Groups));
        var zeros = grid.Zeros is { Range: var z }
            ? edit.AddConstant(weight.Scope, weight.Value + "_z", Tensor(shard, z, DataType.Uint8, rows, z.Length / rows))
            : null;
        // The rows come in the type of the scales.
        var half = grid.Scales.DataType == (int)DataType.Float16;
        foreach (var use in weight.Uses)
        {
            var output = use.Node.Output[0];
            var rowsOf = half ? edit.FreshName(output + "_half") : output;
            var node = ModelEdit.Node(
                $"{Microsoft}:GatherBlockQuantized",
                [codes, use.Node.Input[1], scales],
                [rowsOf],
                ModelEdit.Attribute("bits", grid.Bits),
                ModelEdit.Attribute("block_size", BlockSize(grid.Group)),
                ModelEdit.Attribute("gather_axis", 0),
                ModelEdit.Attribute("quantize_axis", 1)
            );
            if (use.Node.HasName)
                node.Name = use.Node.Name;
            if (zeros is not null)
                node.Input.Add(zeros);
            ModelEdit.Replace(
                use.Scope,
                use.Node,
                half ? [node, ModelEdit.Node("Cast", [rowsOf], [output], ModelEdit.Attribute("to", (long)DataType.Float))] : [node]
            );
        }
        return [weight.Value];
    }

    private static bool IsTable(Weight weight) => weight.Uses.All(u => u.Op == "Gather" && u.IntAttribute("axis", 0) == 0);

    // A power of two, which may reach past the end of a row.
    private static long BlockSize(int group) => Math.Max(SmallestBlock, BitOperations.RoundUpToPowerOf2((uint)group));
}
