using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Shapes of operators whose inputs are broadcast (ONNX, "Broadcasting in ONNX").</summary>
internal static class ElementwiseShapes
{
    private static readonly HashSet<string> Truths =
    [
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "And",
        "Or",
        "Xor",
        "Not",
        "IsNaN",
        "IsInf",
    ];

    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            .. OperatorFacts
                .With(ChannelEffect.Elementwise)
                .Where(f =>
                    !f.Operator.EndsWith("QuantizeLinear", StringComparison.Ordinal) && f.Operator is not ("Cast" or "Dropout" or "Where")
                )
                .Where(f => !f.Operator.EndsWith("DequantizeLinear", StringComparison.Ordinal))
                .Select(f => (f.Operator, f.Data == 1 ? (ShapeRule)Unary : Broadcast)),
            ("Cast", n => n.Make(0, (DataType)n.Node.Int("to", 0), n.Dims(0))),
            ("CastLike", n => n.Make(0, n.Type(1), n.Dims(0))),
            ("Where", n => n.Make(0, n.Type(1), Broadcast(n, 0, 3))),
            ("Dropout", Dropout),
            ("QuantizeLinear", Quantize),
            ("com.microsoft.QuantizeLinear", Quantize),
            ("DequantizeLinear", Dequantize),
            ("com.microsoft.DequantizeLinear", Dequantize),
            ("CumSum", Unary),
            ("Trilu", Unary),
            ("Softmax", Unary),
            ("LogSoftmax", Unary),
            ("Hardmax", Unary),
            ("LRN", Unary),
            ("LpNormalization", Unary),
            ("MeanVarianceNormalization", Unary),
            ("InstanceNormalization", Unary),
            ("GroupNormalization", Unary),
            ("RMSNormalization", Unary),
        ];

    /// <summary>The shape that two are broadcast to; null where it is not known.</summary>
    public static IReadOnlyList<Dim?>? Broadcast(IReadOnlyList<Dim?>? a, IReadOnlyList<Dim?>? b)
    {
        if (a is null || b is null)
            return null;
        if (a.Count < b.Count)
            (a, b) = (b, a);
        var shape = a.ToArray();
        for (int i = a.Count - 1, j = b.Count - 1; j >= 0; i--, j--)
            shape[i] = Broadcast(a[i], b[j]);
        return shape;
    }

    private static Dim? Broadcast(Dim? a, Dim? b)
    {
        if (a is not null && (a.Equals(b) || b?.Is(1) == true))
            return a;
        if (a?.Is(1) == true)
            return b;
        // A number other than 1 can only meet itself or 1.
        if (a?.Value is not null)
            return b?.Value is null ? a : null;
        return b?.Value is not null ? b : null;
    }

    private static void Unary(InferredNode n) => n.Make(0, Type(n), n.Dims(0));

    private static void Broadcast(InferredNode n) => n.Make(0, Type(n), Broadcast(n, 0, n.Count));

    private static IReadOnlyList<Dim?>? Broadcast(InferredNode n, int from, int to)
    {
        IReadOnlyList<Dim?>? shape = n.Dims(from);
        for (var i = from + 1; i < to; i++)
            shape = Broadcast(shape, n.Dims(i));
        return shape;
    }

    private static DataType Type(InferredNode n) => Truths.Contains(n.Node.OpType) ? DataType.Bool : n.Type(0);

    private static void Dropout(InferredNode n)
    {
        n.Make(0, n.Type(0), n.Dims(0));
        n.Make(1, n.Opset >= 10 ? DataType.Bool : n.Type(0), n.Dims(0));
    }

    private static void Quantize(InferredNode n)
    {
        var asked = (DataType)n.Node.Int("output_dtype", 0);
        var type =
            asked != DataType.Undefined ? asked
            : n.Node.Has(2) ? n.Type(2)
            : DataType.Uint8;
        n.Make(0, type, n.Dims(0));
    }

    private static void Dequantize(InferredNode n)
    {
        var asked = (DataType)n.Node.Int("output_dtype", 0);
        n.Make(0, asked != DataType.Undefined ? asked : n.Type(1), n.Dims(0));
    }
}
