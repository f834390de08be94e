namespace Serverless.Core.Model;

/// <summary>Which length-delimited fields of an ONNX message are messages themselves, so that a walk can go into them.</summary>
internal enum WireKind
{
    Leaf,
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Function,
    Training,
    Value,
    Type,
    TensorType,
    Wrapper,
    Shape,
    Entry,
    Annotation,
}

internal static class WireSchema
{
    /// <summary>The kind of message in a field of a message of kind <paramref name="parent"/> (field numbers of onnx.proto).</summary>
    public static WireKind Child(WireKind parent, int field) =>
        (parent, field) switch
        {
            (WireKind.Model, 7) => WireKind.Graph,
            (WireKind.Model, 8 or 14) => WireKind.Entry,
            (WireKind.Model, 20) => WireKind.Training,
            (WireKind.Model, 25) => WireKind.Function,
            (WireKind.Training, 1 or 2) => WireKind.Graph,
            (WireKind.Training, 3 or 4) => WireKind.Entry,
            (WireKind.Graph, 1) => WireKind.Node,
            (WireKind.Graph, 5) => WireKind.Tensor,
            (WireKind.Graph, 11 or 12 or 13) => WireKind.Value,
            (WireKind.Graph, 14) => WireKind.Annotation,
            (WireKind.Graph, 15) => WireKind.Sparse,
            (WireKind.Graph, 16) => WireKind.Entry,
            (WireKind.Function, 7) => WireKind.Node,
            (WireKind.Function, 9 or 14) => WireKind.Entry,
            (WireKind.Function, 11) => WireKind.Attribute,
            (WireKind.Function, 12) => WireKind.Value,
            (WireKind.Node, 5) => WireKind.Attribute,
            (WireKind.Node, 9) => WireKind.Entry,
            (WireKind.Attribute, 5 or 10) => WireKind.Tensor,
            (WireKind.Attribute, 6 or 11) => WireKind.Graph,
            (WireKind.Attribute, 14 or 15) => WireKind.Type,
            (WireKind.Attribute, 22 or 23) => WireKind.Sparse,
            (WireKind.Sparse, 1 or 2) => WireKind.Tensor,
            (WireKind.Tensor, 13 or 16) => WireKind.Entry,
            (WireKind.Value, 2) => WireKind.Type,
            (WireKind.Value, 4) => WireKind.Entry,
            (WireKind.Annotation, 2) => WireKind.Entry,
            (WireKind.Type, 1 or 8) => WireKind.TensorType,
            (WireKind.Type, 4 or 5 or 9) => WireKind.Wrapper,
            (WireKind.Wrapper, 1 or 2) => WireKind.Type,
            (WireKind.TensorType, 2) => WireKind.Shape,
            (WireKind.Shape, 1) => WireKind.Entry,
            _ => WireKind.Leaf,
        };

    /// <summary>
    /// About what an object of the kind takes in memory once it is parsed, in bytes; its strings and numbers come on top.
    /// </summary>
    public static int ObjectBytes(WireKind kind) =>
        kind switch
        {
            WireKind.Attribute or WireKind.Tensor or WireKind.Graph or WireKind.Function => 512,
            WireKind.Node => 256,
            _ => 96,
        };
}
