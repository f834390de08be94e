using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Puts <c>com.microsoft.MatMulNBits</c> in the place of MatMul and Gemm nodes (ONNX Runtime ContribOperators.md):
/// B is [N, blocks, block·bits/8], scales [N, blocks], zero points packed per row. accuracy_level 4 lets the kernel
/// use int8 arithmetic; without it 8 and 2 bits run about a hundred times slower.
/// </summary>
internal static class MatMulNBitsForm
{
    private const int Int8Compute = 4;

    public static void Apply(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        edit.Import(Form.Microsoft, 1);
        var (n, blocks) = (layer.Shape.Rows, (long)layer.BlocksPerRow);
        ModelEdit.RemoveDefinition(weight);
        var codes = edit.AddConstant(
            weight.Scope,
            weight.Value + "_q",
            Form.Tensor(shard, layer.Codes, DataType.Uint8, n, blocks, (long)layer.Block * layer.Bits / 8)
        );
        var scales = edit.AddConstant(weight.Scope, weight.Value + "_s", Form.Tensor(shard, layer.Scales, DataType.Float, n, blocks));
        var zeros = layer.Zeros is { } z
            ? edit.AddConstant(weight.Scope, weight.Value + "_z", Form.Tensor(shard, z, DataType.Uint8, n, z.Length / n))
            : "";
        foreach (var use in weight.Uses)
        {
            var old = use.Node;
            var gemm = old.OpType == "Gemm";
            var (alpha, beta) = gemm ? (use.FloatAttribute("alpha", 1), use.FloatAttribute("beta", 1)) : (1f, 0f);
            var bias = gemm && old.Input.Count > 2 && beta != 0 ? old.Input[2] : "";
            var fused = bias.Length > 0 && alpha == 1 && beta == 1 && IsVector(use.Scope, bias, n);
            var input = layer.InputFactors is { } f
                ? InputScaling.Apply(edit, use, edit.Share(weight.Scope, "factors", Form.Tensor(shard, f, DataType.Float, f.Length / 4)))
                : old.Input[0];
            var node = ModelEdit.Node(
                $"{Form.Microsoft}:MatMulNBits",
                [input, codes, scales],
                [old.Output[0]],
                ModelEdit.Attribute("K", layer.Shape.Axis),
                ModelEdit.Attribute("N", n),
                ModelEdit.Attribute("bits", layer.Bits),
                ModelEdit.Attribute("block_size", layer.Block),
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
    }

    private static string Scalar(ModelEdit edit, GraphScope scope, float value) => edit.Share(scope, "factor", ModelEdit.Tensor([value]));

    private static bool IsVector(GraphScope scope, string name, long length)
    {
        var tensor = scope.Resolve(name)?.Index.Constant(name);
        return tensor is { Dims.Count: 1 } && tensor.Dims[0] == length;
    }
}
