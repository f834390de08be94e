using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Constants, shapes taken as values, and operators that look elements up.</summary>
internal static class IndexShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            ("Constant", Constant),
            ("ConstantOfShape", Filled),
            ("Shape", n => n.Make(0, DataType.Int64, [Taken(n) is var (from, to) ? Dim.Of(to - from) : null])),
            ("Size", n => n.Make(0, DataType.Int64, [])),
            ("Range", n => n.Make(0, n.Type(0), [Count(n)])),
            ("Gather", Gather),
            ("GatherElements", n => n.Make(0, n.Type(0), n.Dims(1))),
            ("GatherND", GatherNd),
            ("Scatter", Same),
            ("ScatterElements", Same),
            ("ScatterND", Same),
            ("NonZero", n => n.Make(0, DataType.Int64, [n.Dims(0) is { Count: > 0 } x ? Dim.Of(x.Count) : null, null])),
            ("OneHot", n => n.Make(0, n.Type(2), OneHot(n))),
            ("TopK", TopK),
            ("EyeLike", n => n.Make(0, n.Node.Attribute("dtype") is { } t ? (DataType)t.I : n.Type(0), n.Dims(0))),
            ("DynamicQuantizeLinear", DynamicQuantize),
        ];

    /// <summary>The axes whose lengths a Shape takes.</summary>
    public static (int From, int To)? Taken(InferredNode n)
    {
        if (n.Dims(0)?.Count is not { } rank)
            return null;
        var (start, end) = (Place(n.Node.Int("start", 0)), Place(n.Node.Int("end", rank)));
        return (start, Math.Max(start, end));

        int Place(long at) => (int)Math.Clamp(at < 0 ? at + rank : at, 0, rank);
    }

    private static void Same(InferredNode n) => n.Make(0, n.Type(0), n.Dims(0));

    private static void Constant(InferredNode n)
    {
        if (n.Node.Attribute.Count == 0)
            return;
        var a = n.Node.Attribute[0];
        var fact = a.Name switch
        {
            "value" when a.T is not null => ShapeInference.Of(a.T),
            "value_int" => new ValueFact(DataType.Int64, []) { Numbers = [new ShapeNumber(Dim.Of(a.I), [])] },
            "value_ints" => new ValueFact(DataType.Int64, [Dim.Of(a.Ints.Count)])
            {
                Numbers = [.. a.Ints.Select(v => new ShapeNumber(Dim.Of(v), []))],
            },
            "value_float" => new ValueFact(DataType.Float, []) { Floats = [a.F] },
            "value_floats" => new ValueFact(DataType.Float, [Dim.Of(a.Floats.Count)]) { Floats = [.. a.Floats] },
            "value_string" => new ValueFact(DataType.String, []),
            "value_strings" => new ValueFact(DataType.String, [Dim.Of(a.Strings.Count)]),
            _ => ValueFact.Unknown,
        };
        n.Outputs[0] = fact;
    }

    private static void Filled(InferredNode n)
    {
        var type = n.Node.Attribute("value")?.T is { } t ? (DataType)t.DataType : DataType.Float;
        if (n.Numbers(0) is { } numbers)
            n.Make(0, type, numbers.Select(v => v.Value?.IsNonNegative == true ? v.Value : null));
        else
            n.Make(0, type, n.Dims(0) is [{ Value: >= 0 and < 64 } rank] ? new Dim?[rank.Value!.Value] : null);
    }

    private static Dim? Count(InferredNode n)
    {
        if (n.Constants(0) is not [var start] || n.Constants(2) is not [var step and not 0] || n.Numbers(1) is not [{ Value: { } limit }])
            return null;
        if (limit.Value is { } end)
            return Dim.Of(Math.Max(0, step > 0 ? (end - start + step - 1) / step : (start - end - step - 1) / -step));
        return start == 0 && step == 1 && limit.IsNonNegative ? limit : null;
    }

    private static void Gather(InferredNode n)
    {
        var (x, indices) = (n.Dims(0), n.Dims(1));
        if (x is null || indices is null || NodeReading.Axis(n.Node.Int("axis", 0), x.Count) is not { } axis)
            n.Make(0, n.Type(0), null);
        else
            n.Make(0, n.Type(0), [.. x.Take(axis), .. indices, .. x.Skip(axis + 1)]);
    }

    private static void GatherNd(InferredNode n)
    {
        var (x, indices) = (n.Dims(0), n.Dims(1));
        var batch = n.Node.Int("batch_dims", 0);
        if (x is null || indices is not { Count: > 0 } || indices[^1].Value is not { } depth || batch + depth > x.Count)
            n.Make(0, n.Type(0), null);
        else
            n.Make(0, n.Type(0), [.. indices.SkipLast(1), .. x.Skip((int)(batch + depth))]);
    }

    private static IEnumerable<Dim?>? OneHot(InferredNode n)
    {
        if (n.Dims(0) is not { } x || NodeReading.Axis(n.Node.Int("axis", -1), x.Count + 1) is not { } axis)
            return null;
        return [.. x.Take(axis), n.Numbers(1) is [var depth] ? depth.Value : null, .. x.Skip(axis)];
    }

    private static void TopK(InferredNode n)
    {
        var x = n.Dims(0);
        var axis = x is null ? null : NodeReading.Axis(n.Node.Int("axis", -1), x.Count);
        var count =
            n.Node.Attribute("k") is { } k ? Dim.Of(k.I)
            : n.Numbers(1) is [var given] ? given.Value
            : null;
        var shape = axis is null ? null : x!.Select((d, i) => i == axis ? count : d).ToList();
        n.Make(0, n.Type(0), shape);
        n.Make(1, DataType.Int64, shape);
    }

    private static void DynamicQuantize(InferredNode n)
    {
        n.Make(0, DataType.Uint8, n.Dims(0));
        n.Make(1, DataType.Float, []);
        n.Make(2, DataType.Uint8, []);
    }
}
