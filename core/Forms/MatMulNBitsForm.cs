using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts <c>com.microsoft.MatMulNBits</c> in the place of MatMul and Gemm nodes (ONNX Runtime ContribOperators.md):
/// B is [N, blocks, block·bits/8], scales [N, blocks], zero points packed per row. accuracy_level 4 lets the kernel
/// use int8 arithmetic; without it 8 and 2 bits run about a hundred times slower.
/// </summary>
internal sealed class MatMulNBitsForm : KernelForm
{
    private const int Int8Compute = 4,
        SmallestBlock2Bits = 64;
    private const long PaysFrom = 1 << 19,
        PaysAxisFrom = 512;

    /// <inheritdoc/>
    public override string Name => FormName.MatMulNBits;

    /// <inheritdoc/>
    protected override bool Fits(Weight weight, LayerShape shape, CodeRequest request, int block) =>
        weight.Uses.All(IsMatMul) && weight.Uses.Select(TransB).Distinct().Count() == 1;

    /// <inheritdoc/>
    protected override bool Pays(LayerShape shape, CodeRequest request) =>
        shape.Elements >= PaysFrom && shape.Axis >= PaysAxisFrom && !(request.KernelBits == 2 && request.Group < SmallestBlock2Bits);

    /// <inheritdoc/>
    protected override double Time(bool pays) => pays ? 0.7 : 1.5;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        edit.Import(Microsoft, 1);
        var (scaling, grid) = layer.Grid is ScaledGrid g ? (g, (AffineGrid)g.Inner) : (null, (AffineGrid)layer.Grid);
        var (n, blocks) = (layer.Shape.Rows, (long)grid.Groups);
        ModelEdit.RemoveDefinition(weight);
        var codes = edit.AddConstant(
            weight.Scope,
            weight.Value + "_q",
            Tensor(shard, layer.Codes, DataType.Uint8, n, blocks, (long)grid.Group * grid.Bits / 8)
        );
        var scales = edit.AddConstant(weight.Scope, weight.Value + "_s", Tensor(shard, grid.Scales, n, blocks));
        var zeros = grid.Zeros is { Range: var z }
            ? edit.AddConstant(weight.Scope, weight.Value + "_z", Tensor(shard, z, DataType.Uint8, n, z.Length / n))
            : "";
        foreach (var use in weight.Uses)
        {
            var old = use.Node;
            var gemm = old.OpType == "Gemm";
            var (alpha, beta) = gemm ? (use.FloatAttribute("alpha", 1), use.FloatAttribute("beta", 1)) : (1f, 0f);
            var bias = gemm && old.Input.Count > 2 && beta != 0 ? old.Input[2] : "";
            var fused = bias.Length > 0 && alpha == 1 && beta == 1 && IsVector(use.Scope, bias, n);
            var input = scaling?.Factors is { } f
                ? InputScaling.Apply(edit, use, edit.Share(weight.Scope, "factors", Tensor(shard, f, f.Range.Length / 4)))
                : old.Input[0];
            var node = ModelEdit.Node(
                $"{Microsoft}:MatMulNBits",
                [input, codes, scales],
                [old.Output[0]],
                ModelEdit.Attribute("K", layer.Shape.Axis),
                ModelEdit.Attribute("N", n),
                ModelEdit.Attribute("bits", grid.Bits),
                ModelEdit.Attribute("block_size", grid.Group),
                ModelEdit.Attribute("accuracy_level", Int8Compute)
            );
            if (old.HasName)
                node.Name = old.Name;
            if (zeros.Length > 0)
                node.Input.Add(zeros);
            if (fused)
                node.Input.Add(zeros.Length > 0 ? ["", bias] : ["", "", bias]);

            var product = new List<NodeProto> { node };
            if (alpha != 1)
                Then("Mul", Scalar(edit, use.Scope, alpha));
            if (bias.Length > 0 && !fused)
            {
                if (beta != 1)
                {
                    var scaled = edit.FreshName(bias + "_beta");
                    product.Insert(0, ModelEdit.Node("Mul", [bias, Scalar(edit, use.Scope, beta)], [scaled]));
                    bias = scaled;
                }
                Then("Add", bias);
            }
            ModelEdit.Replace(use.Scope, old, product);

            void Then(string op, string operand)
            {
                var before = edit.FreshName(old.Output[0] + "_p");
                product[^1].Output[0] = before;
                product.Add(ModelEdit.Node(op, [before, operand], [old.Output[0]]));
            }
        }
        return [weight.Value];
    }

    private static bool IsMatMul(WeightUse use) =>
        use is { Op: "MatMul", Input: 1 } || (use is { Op: "Gemm", Input: 1 } && use.IntAttribute("transA", 0) == 0);

    private static bool TransB(WeightUse use) => use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;

    private static string Scalar(ModelEdit edit, GraphScope scope, float value) => edit.Share(scope, "factor", ModelEdit.Tensor([value]));

    private static bool IsVector(GraphScope scope, string name, long length)
    {
        var tensor = scope.Resolve(name)?.Index.Constant(name);
        return tensor is { Dims.Count: 1 } && tensor.Dims[0] == length;
    }
}
