using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>
/// Memory that ONNX Runtime takes to fold constants while it loads a model: all that their nodes make is held until the last is folded.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="order">Its nodes.</param>
internal sealed class FoldedBytes(ModelProto model, CopiedNodes order)
{
    // Weights of fewer bytes take little however they are decoded.
    private const long LeastStored = 8 << 20;
    private readonly ScopeFacts facts = new GraphFacts(model).Main;

    /// <summary>Bytes that folding a node adds; 0 for one that is not folded, and where its outputs are not known beforehand.</summary>
    public long Of(int node) =>
        order.IsCopied(node) && order.Node(node).OpType != "DequantizeLinear"
            ? order.Node(node).Output.Where(o => o.Length > 0).Sum(Bytes)
            : 0;

    /// <summary>Bytes that folding all constants of a model takes; 0 where they are of few stored bytes.</summary>
    public static long Of(ModelProto model)
    {
        var order = new CopiedNodes(model.Graph, new HashSet<string>());
        var nodes = Enumerable.Range(0, order.Count).Where(order.IsCopied).ToList();
        var taken = nodes.SelectMany(n => order.Uses[n]).ToHashSet(StringComparer.Ordinal);
        if (model.Graph.Initializer.Where(t => taken.Contains(t.Name)).Sum(t => TensorRef.From(t, t.Name).Length) < LeastStored)
            return 0;
        return nodes.Sum(new FoldedBytes(model, order).Of);
    }

    private long Bytes(string value)
    {
        var fact = facts.Of(value);
        return (fact.Elements?.Value ?? 0) * DataTypes.Bits((int)fact.Type) / 8;
    }
}
