using Serverless.Core.Onnx.Schema;

namespace Serverless.Core.Onnx;

/// <summary>
/// Raises the default operator set from 9 to 10, where integer convolutions begin (ONNX Changelog.md): Slice and TopK take
/// as inputs what were attributes, Upsample is called Resize; the other operators that changed only gained attributes.
/// </summary>
public static class OpsetRaise
{
    /// <summary>The lowest operator set that can be raised.</summary>
    public const long Lowest = 9;
    private const long Target = 10;

    /// <summary>Raises the model's main graph and subgraphs to at least 10; nothing to do when they are there.</summary>
    /// <exception cref="InvalidOperationException">The operator set is below <see cref="Lowest"/>.</exception>
    public static void To10(ModelEdit edit)
    {
        var import = edit.Model.OpsetImport.First(o => o.Domain is "" or "ai.onnx");
        if (import.Version >= Target) return;
        if (import.Version < Lowest) throw new InvalidOperationException($"Operator set {import.Version} is below {Lowest}.");
        foreach (var scope in edit.Roots[0].All())
            foreach (var node in scope.Nodes.Where(n => n.Domain is "" or "ai.onnx").ToList())
            {
                switch (node.OpType)
                {
                    case "Slice":
                        var (starts, ends, axes) = (Take(node, "starts"), Take(node, "ends"), Take(node, "axes"));
                        node.Input.Add(edit.Int64s(scope, starts));
                        node.Input.Add(edit.Int64s(scope, ends));
                        if (axes.Length > 0) node.Input.Add(edit.Int64s(scope, axes));
                        break;
                    case "TopK":
                        node.Input.Add(edit.Int64s(scope, Take(node, "k")));
                        break;
                    case "Upsample":
                        node.OpType = "Resize";
                        break;
                }
            }
        import.Version = Target;
    }

    private static long[] Take(NodeProto node, string name)
    {
        for (var i = 0; i < node.Attribute.Count; i++)
        {
            if (node.Attribute[i].Name != name) continue;
            var a = node.Attribute[i];
            node.Attribute.RemoveAt(i);
            return a.Type == AttributeProto.Types.AttributeType.Int ? [a.I] : [.. a.Ints];
        }
        return [];
    }
}
