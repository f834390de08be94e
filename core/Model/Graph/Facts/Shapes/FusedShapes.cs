using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Shapes of ONNX Runtime's fused operators (ONNX Runtime, "Contrib operators") and of attention.</summary>
internal static class FusedShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            ("com.microsoft.Attention", Attention),
            ("com.microsoft.MultiHeadAttention", MultiHead),
            ("com.microsoft.EmbedLayerNormalization", Embed),
            ("com.microsoft.RotaryEmbedding", n => n.Make(0, n.Type(0), n.Dims(0))),
            ("RotaryEmbedding", n => n.Make(0, n.Type(0), n.Dims(0))),
            ("com.microsoft.QLinearAdd", n => n.Make(0, n.Type(0), ElementwiseShapes.Broadcast(n.Dims(0), n.Dims(3)))),
            ("com.microsoft.QLinearMul", n => n.Make(0, n.Type(0), ElementwiseShapes.Broadcast(n.Dims(0), n.Dims(3)))),
            ("com.microsoft.QLinearSigmoid", n => n.Make(0, n.Type(0), n.Dims(0))),
            ("com.microsoft.QLinearLeakyRelu", n => n.Make(0, n.Type(0), n.Dims(0))),
            ("com.microsoft.QLinearGlobalAveragePool", Pooled),
        ];

    private static void Attention(InferredNode n)
    {
        if (n.Node.Attribute("qkv_hidden_sizes") is { } sizes)
            n.Make(0, n.Type(0), n.Dims(0) is { Count: 3 } x && sizes.Ints.Count == 3 ? [x[0], x[1], Dim.Of(sizes.Ints[2])] : null);
        else
            n.Make(
                0,
                n.Type(0),
                n.Dims(0) is { Count: 3 } x && n.Dims(1) is { Count: 2 } w ? [x[0], x[1], Dim.Divide(w[1], Dim.Of(3))] : null
            );
    }

    private static void MultiHead(InferredNode n)
    {
        var (query, value) = (n.Dims(0), n.Dims(2));
        n.Make(0, n.Type(0), query is { Count: 3 } q && value is { Count: 3 } v ? [q[0], q[1], v[2]] : null);
    }

    private static void Embed(InferredNode n)
    {
        var (ids, words) = (n.Dims(0), n.Dims(2));
        n.Make(0, n.Type(2), ids is { Count: 2 } i && words is { Count: 2 } w ? [i[0], i[1], w[1]] : null);
        n.Make(1, DataType.Int32, ids is { Count: 2 } b ? [b[0]] : null);
    }

    private static void Pooled(InferredNode n) =>
        n.Make(
            0,
            n.Type(0),
            n.Node.Int("channels_last", 0) == 0 && n.Dims(0) is { Count: > 1 } x ? x.Select((d, i) => i < 2 ? d : Dim.One) : null
        );
}
