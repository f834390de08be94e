using Google.Protobuf;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// Raises the default operator set from 9 or 10 to 11, which ONNX Runtime's integer transformers take for granted, and which has CumSum
/// (ONNX Changelog.md): Slice, TopK, Clip and Pad take as inputs what were attributes, Upsample is called Resize, Scatter is called
/// ScatterElements, and Resize says how it maps coordinates. The other operators that changed only gained attributes, types and negative
/// axes.
/// </summary>
public static class OpsetRaise
{
    /// <summary>The lowest operator set that can be raised.</summary>
    public const long Lowest = 9;

    /// <summary>What it is raised to.</summary>
    public const long Target = 11;

    private const long SliceInputs = 10;

    /// <summary>The operator set that a scope may have: its own, or the one that it can be raised to.</summary>
    public static long Reachable(GraphScope scope) =>
        ModelEdit.Outermost(scope).Function is null && scope.Opset >= Lowest ? Math.Max(scope.Opset, Target) : scope.Opset;

    /// <summary>Raises the model's main graph and subgraphs to at least 11; nothing to do when they are there.</summary>
    /// <exception cref="InvalidOperationException">The operator set is below <see cref="Lowest"/>.</exception>
    public static void To11(ModelEdit edit)
    {
        var import = edit.Model.OpsetImport.Last(o => o.Domain is "" or "ai.onnx");
        if (import.Version >= Target)
            return;
        if (import.Version < Lowest)
            throw new InvalidOperationException($"Operator set {import.Version} is below {Lowest}.");
        var types = Bounded(edit);
        foreach (var scope in edit.Roots[0].All())
        foreach (var node in scope.Nodes.Where(n => n.Domain is "" or "ai.onnx").ToList())
        {
            if (import.Version < SliceInputs)
                To10(edit, scope, node);
            From10(edit, scope, node, types.GetValueOrDefault(node, DataType.Float));
        }
        import.Version = Target;
    }

    // What these are given as inputs is of the type of the values that they bound or pad; FLOAT where that is not known.
    private static Dictionary<NodeProto, DataType> Bounded(ModelEdit edit)
    {
        var types = new Dictionary<NodeProto, DataType>(ReferenceEqualityComparer.Instance);
        var facts = new GraphFacts(edit.Model, edit.Roots);
        foreach (var scope in edit.Roots[0].All())
        foreach (var node in scope.Nodes.Where(n => n.Operator() is "Clip" or "Pad" && n.Input.Count > 0))
            if (facts.In(scope).Type(node.Input[0]) is (DataType.Float16 or DataType.Double) and var type)
                types[node] = type;
        return types;
    }

    private static void To10(ModelEdit edit, GraphScope scope, NodeProto node)
    {
        switch (node.OpType)
        {
            case "Slice":
                var (starts, ends, axes) = (Integers(node, "starts"), Integers(node, "ends"), Integers(node, "axes"));
                node.Input.Add(edit.Int64s(scope, starts));
                node.Input.Add(edit.Int64s(scope, ends));
                if (axes.Length > 0)
                    node.Input.Add(edit.Int64s(scope, axes));
                break;
            case "TopK":
                node.Input.Add(edit.Int64s(scope, Integers(node, "k")));
                break;
            case "Upsample":
                node.OpType = "Resize";
                break;
        }
    }

    private static void From10(ModelEdit edit, GraphScope scope, NodeProto node, DataType type)
    {
        switch (node.OpType)
        {
            case "Clip":
                var (min, max) = (Take(node, "min"), Take(node, "max"));
                if (min is not null || max is not null)
                    node.Input.Add(min is null ? "" : Scalar(edit, scope, min.F, type));
                if (max is not null)
                    node.Input.Add(Scalar(edit, scope, max.F, type));
                break;
            case "Scatter":
                node.OpType = "ScatterElements";
                break;
            case "Pad":
                var value = Take(node, "value")?.F ?? 0;
                node.Input.Add(edit.Int64s(scope, Integers(node, "pads")));
                if (value != 0)
                    node.Input.Add(Scalar(edit, scope, value, type));
                break;
            case "Resize":
                // The region of interest, which only tf_crop_and_resize looks at, may not be left out before 13.
                node.Input.Insert(1, edit.Share(scope, "roi", ModelEdit.Tensor([], 0)));
                node.Attribute.Add(Text("coordinate_transformation_mode", "asymmetric"));
                node.Attribute.Add(Text("nearest_mode", "floor"));
                break;
        }
    }

    private static string Scalar(ModelEdit edit, GraphScope scope, float value, DataType type) =>
        edit.Share(scope, "bound", ModelEdit.Tensor(type, FloatConversion.FromFloat([value], (int)type)));

    private static AttributeProto Text(string name, string value) =>
        new()
        {
            Name = name,
            S = ByteString.CopyFromUtf8(value),
            Type = AttributeProto.Types.AttributeType.String,
        };

    private static long[] Integers(NodeProto node, string name) =>
        Take(node, name) switch
        {
            null => [],
            { Type: AttributeProto.Types.AttributeType.Int } a => [a.I],
            var a => [.. a.Ints],
        };

    private static AttributeProto? Take(NodeProto node, string name)
    {
        for (var i = 0; i < node.Attribute.Count; i++)
        {
            if (node.Attribute[i].Name != name)
                continue;
            var a = node.Attribute[i];
            node.Attribute.RemoveAt(i);
            return a;
        }
        return null;
    }
}
