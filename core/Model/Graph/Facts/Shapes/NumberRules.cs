using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// Computes the whole numbers that shapes are made of: what Shape takes, with Gather, Slice, Concat and arithmetic behind it. Each
/// number keeps the
/// axes whose lengths it depends on.
/// </summary>
internal static class NumberRules
{
    private const int Most = 256,
        MostLengths = 8;

    private delegate IReadOnlyList<ShapeNumber>? Rule(InferredNode node);

    private static readonly Dictionary<string, Rule> All = new(StringComparer.Ordinal)
    {
        ["Shape"] = Shape,
        ["Size"] = Size,
        ["Identity"] = n => n.Numbers(0),
        ["Cast"] = Cast,
        ["Squeeze"] = n => n.Numbers(0),
        ["Unsqueeze"] = n => n.Numbers(0),
        ["Reshape"] = n => n.Numbers(0),
        ["Flatten"] = n => n.Numbers(0),
        ["Transpose"] = Transpose,
        ["Gather"] = Gather,
        ["Slice"] = Slice,
        ["Concat"] = Concat,
        ["Add"] = n => Pairs(n, Dim.Add),
        ["Sub"] = n => Pairs(n, (a, b) => Dim.Add(a, Dim.Multiply(Dim.Of(-1), b))),
        ["Mul"] = n => Pairs(n, Dim.Multiply),
        ["Div"] = n => Pairs(n, Quotient),
        ["Mod"] = n => Pairs(n, Known((a, b) => a >= 0 && b > 0 ? a % b : null)),
        ["Max"] = n => n.Count == 2 ? Pairs(n, Known((a, b) => Math.Max(a, b))) : null,
        ["Min"] = n => n.Count == 2 ? Pairs(n, Known((a, b) => Math.Min(a, b))) : null,
        ["Equal"] = n => Pairs(n, Same),
        ["Less"] = n => Pairs(n, Known((a, b) => a < b ? 1 : 0)),
        ["Greater"] = n => Pairs(n, Known((a, b) => a > b ? 1 : 0)),
        ["And"] = n => Pairs(n, Known((a, b) => a & b)),
        ["Or"] = n => Pairs(n, Known((a, b) => a | b)),
        ["Not"] = n => n.Numbers(0)?.Select(v => v with { Value = v.Value?.Value is { } t ? Dim.Of(1 - t) : null }).ToList(),
        ["Neg"] = n => n.Numbers(0)?.Select(v => v with { Value = Dim.Multiply(Dim.Of(-1), v.Value) }).ToList(),
        ["Where"] = Where,
        ["ConstantOfShape"] = Filled,
        ["Expand"] = Expand,
        ["ReduceProd"] = n => Folded(n, Dim.One, Dim.Multiply),
        ["ReduceSum"] = n => Folded(n, Dim.Zero, Dim.Add),
        ["Range"] = Range,
    };

    // What keeps the order of a matrix's elements, or moves them in a way that is followed: pads are written as two columns.
    private static readonly HashSet<string> OfMatrices =
    [
        "Identity",
        "Cast",
        "Squeeze",
        "Unsqueeze",
        "Reshape",
        "Flatten",
        "Transpose",
        "Slice",
    ];

    /// <summary>Adds the numbers that the node's output holds, where it is a scalar, vector or matrix of whole numbers.</summary>
    public static void Fold(InferredNode node)
    {
        if (node.Outputs is not [{ Numbers: null, Shape.Count: < 3 } made] || !IsWhole(made))
            return;
        var matrix =
            made.Shape.Count == 2 || Enumerable.Range(0, node.Count).Any(i => node.Numbers(i) is not null && node.Dims(i)!.Count == 2);
        if (matrix && !OfMatrices.Contains(node.Node.OpType))
            return;
        if (!All.TryGetValue(node.Node.Operator(), out var rule) || rule(node) is not { } numbers || numbers.Count > Most)
            return;
        if (made.Elements?.Value is { } count ? count == numbers.Count : made.Shape.Count == 1)
            node.Outputs[0] = made with { Numbers = numbers, Shape = made.Shape.Count == 1 ? [Dim.Of(numbers.Count)] : made.Shape };
    }

    /// <summary>Whether a node's output may hold numbers that depend on lengths.</summary>
    public static bool IsWhole(ValueFact fact) => fact.Type is DataType.Int64 or DataType.Int32 or DataType.Bool;

    private static List<ShapeNumber>? Shape(InferredNode n)
    {
        if (IndexShapes.Taken(n) is not var (from, to) || n.Scope.Resolve(n.Node.Input[0]) is not { } home)
            return null;
        return [.. n.Dims(0)!.Select((d, a) => new ShapeNumber(d, [new ValueAxis(home, n.Node.Input[0], a)])).Skip(from).Take(to - from)];
    }

    private static List<ShapeNumber>? Size(InferredNode n)
    {
        if (n.Dims(0) is not { Count: <= MostLengths } dims || n.Scope.Resolve(n.Node.Input[0]) is not { } home)
            return null;
        return [new ShapeNumber(n.Input(0)!.Elements, [.. dims.Select((_, a) => new ValueAxis(home, n.Node.Input[0], a))])];
    }

    private static IReadOnlyList<ShapeNumber>? Cast(InferredNode n) =>
        n.Outputs[0]!.Type == DataType.Bool && n.Type(0) != DataType.Bool
            ? n.Numbers(0)?.Select(v => v with { Value = v.Value?.Value is { } known ? Dim.Of(known == 0 ? 0 : 1) : null }).ToList()
            : n.Numbers(0);

    private static IReadOnlyList<ShapeNumber>? Gather(InferredNode n)
    {
        if (n.Numbers(0) is not { } from || n.Constants(1) is not { } at || n.Dims(0)?.Count != 1)
            return null;
        return at.All(i => i >= -from.Count && i < from.Count) ? [.. at.Select(i => from[(int)(i < 0 ? i + from.Count : i)])] : null;
    }

    private static IReadOnlyList<ShapeNumber>? Transpose(InferredNode n)
    {
        if (n.Numbers(0) is not { } from || n.Dims(0) is not [{ Value: { } rows }, { Value: { } columns }])
            return n.Dims(0)?.Count < 2 ? n.Numbers(0) : null;
        if (LayoutShapes.Permutation(n) is not [1, 0])
            return from;
        return [.. Enumerable.Range(0, from.Count).Select(i => from[(int)(i % rows * columns + i / rows)])];
    }

    private static List<ShapeNumber>? Slice(InferredNode n)
    {
        if (n.Numbers(0) is not { } from || n.Dims(0) is not { Count: > 0 } dims || SliceBounds.Of(n) is not [var slice])
            return null;
        if (slice.Range(dims[slice.Axis]) is not var (first, end))
            return null;
        // Of a matrix rows or columns; a vector is a column.
        var (rows, columns) = ((int)dims[0].Value!.Value, dims.Count > 1 ? (int)dims[1].Value!.Value : 1);
        var taken = new List<int>();
        for (var i = first; slice.Step > 0 ? i < end : i > end; i += slice.Step!.Value)
            taken.Add((int)i);
        return slice.Axis == 0
            ? [.. taken.SelectMany(r => Enumerable.Range(0, columns).Select(c => from[r * columns + c]))]
            : [.. Enumerable.Range(0, rows).SelectMany(r => taken.Select(c => from[r * columns + c]))];
    }

    private static List<ShapeNumber>? Concat(InferredNode n)
    {
        var all = new List<ShapeNumber>();
        for (var i = 0; i < n.Count; i++)
        {
            if (n.Numbers(i) is not { } numbers || all.Count + numbers.Count > Most)
                return null;
            all.AddRange(numbers);
        }
        return all;
    }

    private static List<ShapeNumber>? Pairs(InferredNode n, Func<Dim?, Dim?, Dim?> f)
    {
        if (n.Numbers(0) is not { } a || n.Numbers(1) is not { } b || a.Count != b.Count && a.Count != 1 && b.Count != 1)
            return null;
        var results = new List<ShapeNumber>();
        for (var i = 0; i < Math.Max(a.Count, b.Count); i++)
        {
            var (x, y) = (a[a.Count == 1 ? 0 : i], b[b.Count == 1 ? 0 : i]);
            if (Joined(x, y) is not { } lengths)
                return null;
            results.Add(new ShapeNumber(f(x.Value, y.Value), lengths));
        }
        return results;
    }

    // Null when they are too many to be told apart.
    private static IReadOnlyList<ValueAxis>? Joined(params ReadOnlySpan<ShapeNumber> numbers)
    {
        IReadOnlyList<ValueAxis> all = [];
        foreach (var n in numbers)
            if (n.Lengths.Count > 0)
                all = all.Count == 0 ? n.Lengths : [.. all.Union(n.Lengths)];
        return all.Count > MostLengths ? null : all;
    }

    private static Func<Dim?, Dim?, Dim?> Known(Func<long, long, long?> f) =>
        (a, b) => a?.Value is { } x && b?.Value is { } y && f(x, y) is { } z ? Dim.Of(z) : null;

    // Division of whole numbers cuts off, which is rounding down where nothing is negative.
    private static Dim? Quotient(Dim? a, Dim? b)
    {
        if (a?.Value is { } x && b?.Value is { } y)
            return y == 0 ? null : Dim.Of(x / y);
        return Dim.Divide(a, b) ?? (a?.IsNonNegative == true && b?.Value is > 0 ? Dim.FloorDivide(a, b.Value!.Value) : null);
    }

    private static Dim? Same(Dim? a, Dim? b)
    {
        if (a is null || b is null)
            return null;
        if (a.Equals(b))
            return Dim.One;
        return a.Value is not null && b.Value is not null ? Dim.Zero : null;
    }

    private static List<ShapeNumber>? Where(InferredNode n)
    {
        if (n.Numbers(0) is not { } test || n.Numbers(1) is not { } a || n.Numbers(2) is not { } b)
            return null;
        var count = Math.Max(test.Count, Math.Max(a.Count, b.Count));
        if (new[] { test, a, b }.Any(v => v.Count != 1 && v.Count != count))
            return null;
        var results = new List<ShapeNumber>();
        for (var i = 0; i < count; i++)
        {
            var (t, x, y) = (test[test.Count == 1 ? 0 : i], a[a.Count == 1 ? 0 : i], b[b.Count == 1 ? 0 : i]);
            if (Joined(t, x, y) is not { } lengths)
                return null;
            var value =
                t.Value?.Value is { } chosen ? (chosen != 0 ? x.Value : y.Value)
                : x.Value is { } p && p.Equals(y.Value) ? p
                : null;
            results.Add(new ShapeNumber(value, lengths));
        }
        return results;
    }

    private static List<ShapeNumber>? Filled(InferredNode n)
    {
        if (n.Constants(0) is not ([] or [>= 0 and <= Most]))
            return null;
        var count = n.Constants(0) is [var length] ? (int)length : 1;
        var value = n.Node.Attribute("value")?.T is { } t ? ShapeInference.Of(t).Numbers?[0] : new ShapeNumber(Dim.Zero, []);
        return value is { } each ? [.. Enumerable.Repeat(each, count)] : null;
    }

    private static List<ShapeNumber>? Expand(InferredNode n)
    {
        if (n.Numbers(0) is not { } from || n.Constants(1) is not ([] or [>= 0 and <= Most]))
            return null;
        var count = n.Constants(1) is [var length] ? (int)length : 1;
        if (from.Count != 1)
            return count == 1 || count == from.Count ? [.. from] : null;
        return n.Dims(0)?.Count == 0 && n.Constants(1)!.Count == 0 ? [from[0]] : [.. Enumerable.Repeat(from[0], count)];
    }

    private static List<ShapeNumber>? Folded(InferredNode n, Dim start, Func<Dim?, Dim?, Dim?> f)
    {
        if (n.Numbers(0) is not { } from || n.Dims(0)?.Count != 1 || ReductionShapes.Axes(n, 1)?.Count != 1)
            return null;
        return Joined([.. from]) is { } lengths ? [new ShapeNumber(from.Select(v => v.Value).Aggregate((Dim?)start, f), lengths)] : null;
    }

    private static List<ShapeNumber>? Range(InferredNode n)
    {
        if (n.Constants(0) is not [var start] || n.Constants(1) is not [var limit] || n.Constants(2) is not [var step and not 0])
            return null;
        var values = new List<ShapeNumber>();
        for (var v = start; (step > 0 ? v < limit : v > limit) && values.Count <= Most; v += step)
            values.Add(new ShapeNumber(Dim.Of(v), []));
        return values;
    }
}
