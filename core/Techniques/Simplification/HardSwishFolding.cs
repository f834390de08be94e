using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Writes x · clip(x + 3, 0, 6) / 6, as exporters spell the hard swish (Howard et al. 2019, "Searching for MobileNetV3",
/// section 5.2), as x · HardSigmoid(x): two passes over memory instead of four. Equal up to the last bits of a float.
/// </summary>
public static class HardSwishFolding
{
    private const float Shift = 3,
        Top = 6;

    /// <summary>Folds wherever nothing else uses what lies between; constants must be initializers.</summary>
    /// <returns>How many were folded.</returns>
    public static int Apply(ModelEdit edit)
    {
        var folded = 0;
        using var batch = edit.Batch();
        foreach (var scope in edit.Roots[0].All())
        {
            var index = scope.Index;
            foreach (var add in scope.Nodes.Where(n => n is { OpType: "Add", Domain: "", Input.Count: 2 }).ToList())
            {
                var x =
                    Number(add.Input[1]) == Shift ? add.Input[0]
                    : Number(add.Input[0]) == Shift ? add.Input[1]
                    : null;
                if (x is null || Only(add) is not { OpType: "Clip", Domain: "" } clip || Bounds(clip) != (0f, Top))
                    continue;
                if (
                    Only(clip) is not { OpType: "Mul", Domain: "" } mul
                    || mul.Input.Count(i => i == x) != 1
                    || !mul.Input.Contains(clip.Output[0])
                )
                    continue;
                var last = Only(mul);
                var sixth = last switch
                {
                    { OpType: "Div", Domain: "" } => last.Input[0] == mul.Output[0] && Number(last.Input[1]) == Top,
                    { OpType: "Mul", Domain: "" } => Number(last.Input[last.Input[0] == mul.Output[0] ? 1 : 0]) is { } f
                        && MathF.Abs(f * Top - 1) < 1e-6f,
                    _ => false,
                };
                if (!sixth)
                    continue;
                var gate = ModelEdit.Node(
                    "HardSigmoid",
                    [x],
                    [add.Output[0]],
                    ModelEdit.Attribute("alpha", 1 / Top),
                    ModelEdit.Attribute("beta", 0.5f)
                );
                ModelEdit.Replace(scope, add, [gate]);
                ModelEdit.Replace(scope, clip, []);
                ModelEdit.Replace(scope, mul, []);
                ModelEdit.Replace(scope, last!, [ModelEdit.Node("Mul", [x, gate.Output[0]], [last!.Output[0]])]);
                folded++;
            }

            NodeProto? Only(NodeProto node) => index.OnlyConsumer(node.Output[0]);

            float? Number(string name) =>
                index.Initializer(name) is { DataType: (int)DataType.Float, DataLocation: not TensorProto.Types.DataLocation.External } t
                && t.Dims.All(d => d == 1)
                && TensorRef.InlineBytes(t) is { Length: 4 } bytes
                    ? MemoryMarshal.Read<float>(bytes.Span)
                    : null;

            (float?, float?) Bounds(NodeProto clip) =>
                clip.Input.Count > 1
                    ? (Number(clip.Input[1]), clip.Input.Count > 2 ? Number(clip.Input[2]) : null)
                    : (clip.Attribute.FirstOrDefault(a => a.Name == "min")?.F, clip.Attribute.FirstOrDefault(a => a.Name == "max")?.F);
        }
        return folded;
    }
}
