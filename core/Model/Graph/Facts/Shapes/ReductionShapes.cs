using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Shapes of reductions, and of normalizations with further outputs.</summary>
internal static class ReductionShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            .. OperatorFacts
                .With(ChannelEffect.Reduction)
                .Where(f => f.Operator.StartsWith("Reduce", StringComparison.Ordinal))
                .Select(f => (f.Operator, (ShapeRule)Reduce)),
            ("ArgMax", Argument),
            ("ArgMin", Argument),
            ("BatchNormalization", n => n.Make(0, n.Type(0), n.Dims(0))),
            ("LayerNormalization", Normalize),
            ("SimplifiedLayerNormalization", Normalize),
            ("com.microsoft.SkipLayerNormalization", n => Skip(n)),
            ("com.microsoft.SkipSimplifiedLayerNormalization", n => Skip(n)),
        ];

    /// <summary>The axes that are reduced; null when they are not known. All of them, or none, where the node names none.</summary>
    public static IReadOnlyList<long>? Axes(InferredNode n, int rank)
    {
        var axes = n.Node.OpType.StartsWith("Arg", StringComparison.Ordinal)
            ? [n.Node.Int("axis", 0)]
            : n.Setting("axes", 1, out var given);
        if (axes is null && n.Node.Has(1))
            return null;
        if (axes is { Count: > 0 })
            return axes.All(a => NodeReading.Axis(a, rank) is not null) ? [.. axes.Select(a => (long)NodeReading.Axis(a, rank)!)] : null;
        return n.Node.Int("noop_with_empty_axes", 0) != 0 ? [] : [.. Enumerable.Range(0, rank).Select(a => (long)a)];
    }

    private static void Reduce(InferredNode n) => n.Make(0, n.Type(0), Reduced(n));

    private static void Argument(InferredNode n) => n.Make(0, DataType.Int64, Reduced(n));

    private static IEnumerable<Dim?>? Reduced(InferredNode n)
    {
        if (n.Dims(0) is not { } x)
            return null;
        var keep = n.Node.Int("keepdims", 1) != 0;
        if (Axes(n, x.Count) is not { } axes)
            return keep ? x.Select(_ => (Dim?)null) : null;
        return keep ? x.Select((d, i) => axes.Contains(i) ? Dim.One : d) : x.Where((_, i) => !axes.Contains(i));
    }

    private static void Normalize(InferredNode n)
    {
        n.Make(0, n.Type(0), n.Dims(0));
        var axis = n.Dims(0) is { } x ? NodeReading.Axis(n.Node.Int("axis", -1), x.Count) : null;
        for (var o = 1; o < n.Outputs.Length; o++)
            n.Make(o, DataType.Float, axis is null ? null : n.Dims(0)!.Select((d, i) => i < axis ? d : Dim.One));
    }

    private static void Skip(InferredNode n)
    {
        n.Make(0, n.Type(0), n.Dims(0));
        for (var o = 1; o < 3; o++)
            n.Make(o, DataType.Float, null);
        n.Make(3, n.Type(0), n.Dims(0));
    }
}
