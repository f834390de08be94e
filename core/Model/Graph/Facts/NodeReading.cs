using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>Reads a node's attributes with the defaults of the operator's schema.</summary>
internal static class NodeReading
{
    public static AttributeProto? Attribute(this NodeProto node, string name)
    {
        foreach (var a in node.Attribute)
            if (a.Name == name)
                return a;
        return null;
    }

    public static long Int(this NodeProto node, string name, long otherwise) => node.Attribute(name)?.I ?? otherwise;

    public static float Float(this NodeProto node, string name, float otherwise) => node.Attribute(name)?.F ?? otherwise;

    public static string Text(this NodeProto node, string name, string otherwise) => node.Attribute(name)?.S?.ToStringUtf8() ?? otherwise;

    public static IReadOnlyList<long>? Ints(this NodeProto node, string name) => node.Attribute(name)?.Ints;

    /// <summary>Name of an input; empty when it is left out.</summary>
    public static string In(this NodeProto node, int input) => input < node.Input.Count ? node.Input[input] : "";

    /// <summary>Whether an input is given.</summary>
    public static bool Has(this NodeProto node, int input) => node.In(input).Length > 0;

    /// <summary>Name of an output; empty when it is left out.</summary>
    public static string Out(this NodeProto node, int output) => output < node.Output.Count ? node.Output[output] : "";

    /// <summary>The operator with its domain, as <c>MatMul</c> or <c>com.microsoft.Attention</c>.</summary>
    public static string Operator(this NodeProto node) => node.Domain is "" or "ai.onnx" ? node.OpType : $"{node.Domain}.{node.OpType}";

    /// <summary>How an error or a report names the node.</summary>
    public static string Shown(this NodeProto node) =>
        node.Name.Length > 0 ? $"{node.OpType} '{node.Name}'" : $"{node.OpType} of '{node.Out(0)}'";

    /// <summary>An axis counted from the front; null when there is no such axis.</summary>
    public static int? Axis(long axis, int rank)
    {
        var from = axis < 0 ? axis + rank : axis;
        return from >= 0 && from < rank ? (int)from : null;
    }
}
