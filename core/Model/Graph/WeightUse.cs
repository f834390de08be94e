using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>A node that computes with a weight, and how the weight reaches it.</summary>
/// <param name="Scope">The scope of the node.</param>
/// <param name="Node">The node.</param>
/// <param name="Input">Index of the input that the weight arrives at.</param>
/// <param name="Through">The Transposes, Reshapes and the like that lie between.</param>
public sealed record WeightUse(GraphScope Scope, NodeProto Node, int Input, IReadOnlyList<NodeProto> Through)
{
    /// <summary>Whether nothing lies between.</summary>
    public bool Direct => Through.Count == 0;

    /// <summary>Whether it arrives as it is stored, but for offsets that were added to it.</summary>
    public bool KeepsLayout => Through.All(n => n.Operator() == "Add");

    /// <summary>The operator with its domain, as <c>MatMul</c> or <c>com.microsoft.Attention</c>.</summary>
    public string Op => Domain(Node).Length == 0 ? Node.OpType : $"{Node.Domain}.{Node.OpType}";

    /// <summary>The integer attribute, or its default.</summary>
    public long IntAttribute(string name, long otherwise) => Node.Attribute.FirstOrDefault(a => a.Name == name)?.I ?? otherwise;

    /// <summary>The float attribute, or its default.</summary>
    public float FloatAttribute(string name, float otherwise) => Node.Attribute.FirstOrDefault(a => a.Name == name)?.F ?? otherwise;

    /// <summary>Why the operator takes it for something else than a weight, or null.</summary>
    internal string? WhyNoWeight =>
        Domain(Node) is "" or Microsoft ? OperandRole.WhyNoWeight(Node, Input) : $"used by {Op}, which is not known here";

    private const string Microsoft = "com.microsoft";

    internal static bool IsLayout(NodeProto node, int input) =>
        node.Operator() is "Concat"
        || input == 0 && (node.Operator() is "Cast" or "Slice" or "Split" || OperatorKinds.IsRearrangement(node));

    internal static string Domain(NodeProto node) => node.Domain is "ai.onnx" ? "" : node.Domain;
}
