using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Forms;

/// <summary>
/// Multiplies the last axis of a layer's input by a vector: in the parameters of the LayerNormalization, or the constant of
/// the Mul or Add, that makes the input for this layer alone, by nodes that fold at load; else by a Mul of its own.
/// </summary>
internal static class InputScaling
{
    /// <summary>Scales the input.</summary>
    /// <param name="edit">The edit.</param>
    /// <param name="use">The layer; its node still reads the input.</param>
    /// <param name="factors">The constant to multiply by, one element for each of the last axis.</param>
    /// <returns>The value for the layer to read.</returns>
    public static string Apply(ModelEdit edit, WeightUse use, string factors)
    {
        var (scope, input) = (use.Scope, use.Node.Input[0]);
        if (Fold(edit, scope, input, factors))
            return input;
        var scaled = edit.FreshName(input + "_f");
        ModelEdit.Replace(scope, use.Node, [ModelEdit.Node("Mul", [input, factors], [scaled]), use.Node]);
        return scaled;
    }

    private static bool Fold(ModelEdit edit, GraphScope scope, string value, string factors)
    {
        if (scope.Index.OnlyConsumer(value) is null || scope.Index.Producer(value) is not { } producer)
            return false;
        switch (producer)
        {
            case { OpType: "LayerNormalization" or "SimplifiedLayerNormalization", Output.Count: 1 }
                when producer.Input.Skip(1).All(i => i.Length == 0 || IsVector(scope, i)) && LastAxis(producer):
                for (var i = 1; i < producer.Input.Count; i++)
                    if (producer.Input[i].Length > 0)
                        producer.Input[i] = Times(edit, scope, producer, producer.Input[i], factors);
                return true;
            case { OpType: "Mul", Domain: "" } when Constant(scope, producer) is var c and >= 0:
                producer.Input[c] = Times(edit, scope, producer, producer.Input[c], factors);
                return true;
            case { OpType: "Add", Domain: "" }
                when Constant(scope, producer) is var c and >= 0 && Fold(edit, scope, producer.Input[1 - c], factors):
                producer.Input[c] = Times(edit, scope, producer, producer.Input[c], factors);
                return true;
            default:
                return false;
        }
    }

    private static bool LastAxis(NodeProto norm) => (norm.Attribute.FirstOrDefault(a => a.Name == "axis")?.I ?? -1) == -1;

    private static int Constant(GraphScope scope, NodeProto node) =>
        node.Input.Count != 2 ? -1
        : IsVector(scope, node.Input[1]) ? 1
        : IsVector(scope, node.Input[0]) ? 0
        : -1;

    private static bool IsVector(GraphScope scope, string name) => scope.Index.Constant(name) is { Dims.Count: 1 } t && t.Dims[0] > 1;

    private static string Times(ModelEdit edit, GraphScope scope, NodeProto before, string constant, string factors)
    {
        var product = edit.FreshName(constant + "_f");
        ModelEdit.Replace(scope, before, [ModelEdit.Node("Mul", [constant, factors], [product]), before]);
        return product;
    }
}
