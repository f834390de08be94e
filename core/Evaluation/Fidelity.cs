namespace Serverless.Core.Evaluation;

/// <summary>
/// How near the compressed model's outputs are to the original's, over all samples; where there are several outputs,
/// the worst of them counts.
/// </summary>
public sealed class Fidelity
{
    private readonly Dictionary<string, Sums> outputs = new(StringComparer.Ordinal);
    private long rows, agreeing, labelled, rightBefore, rightAfter;

    private sealed class Sums
    {
        public double Dot, Before, After, Difference;
        public bool IsFloat;
    }

    /// <summary>Σab / √(Σa²·Σb²) of the worst output; 1 where both are zero.</summary>
    public double Cosine => Floats.Select(s => s.Before == 0 && s.After == 0 ? 1 : s.Before == 0 || s.After == 0 ? 0 : Math.Min(1, s.Dot / Math.Sqrt(s.Before * s.After))).DefaultIfEmpty(1).Min();

    /// <summary>‖a − b‖ / ‖a‖ of the worst output.</summary>
    public double RelativeError => Floats.Select(s => s.Before == 0 ? (s.Difference == 0 ? 0 : 1) : Math.Sqrt(s.Difference / s.Before)).DefaultIfEmpty(0).Max();

    /// <summary>Share of rows of the first output whose largest class stays the same (for one class, the side of 0.5); null without rows.</summary>
    public double? Top1Agreement => rows == 0 ? null : (double)agreeing / rows;

    /// <summary>Accuracy of the original over labelled rows; null without labels.</summary>
    public double? AccuracyBefore => labelled == 0 ? null : (double)rightBefore / labelled;

    /// <summary>Accuracy of the compressed model; null without labels.</summary>
    public double? AccuracyAfter => labelled == 0 ? null : (double)rightAfter / labelled;

    /// <summary>Rows of the first output: decisions.</summary>
    public long Rows => rows;

    /// <summary>Labelled rows.</summary>
    public long Labelled => labelled;

    private IEnumerable<Sums> Floats => outputs.Values.Any(s => s.IsFloat) ? outputs.Values.Where(s => s.IsFloat) : outputs.Values;

    /// <summary>Adds one sample.</summary>
    /// <param name="names">Output names in the model's order.</param>
    /// <param name="before">The original's outputs.</param>
    /// <param name="after">The compressed model's.</param>
    /// <param name="labels">Right classes of the first output's rows, or null.</param>
    /// <exception cref="IncomparableException">Shapes differ, or a number became NaN or infinite.</exception>
    public void Add(IReadOnlyList<string> names, IReadOnlyDictionary<string, TensorValue> before, IReadOnlyDictionary<string, TensorValue> after, long[]? labels)
    {
        foreach (var name in names)
        {
            var (a, b) = (before[name], after[name]);
            if (!a.Shape.SequenceEqual(b.Shape) || a.Type != b.Type)
                throw new IncomparableException($"the output '{name}' is [{string.Join(',', b.Shape)}] after compression and was [{string.Join(',', a.Shape)}]");
            if (!outputs.TryGetValue(name, out var sums)) outputs[name] = sums = new Sums { IsFloat = ElementTypes.IsFloat(a.Type) };
            Tally(name, sums, a, b);
        }
        if (names.Count > 0) Classes(before[names[0]], after[names[0]], labels);
    }

    private static void Tally(string name, Sums sums, TensorValue a, TensorValue b)
    {
        var size = ElementTypes.Size(a.Type);
        for (var i = 0; size > 0 && i < a.Bytes.Length / size; i++)
        {
            var (x, y) = (ElementTypes.Get(a.Bytes, a.Type, i), ElementTypes.Get(b.Bytes, b.Type, i));
            // What the original does not define, the compressed model cannot get wrong.
            if (!double.IsFinite(x)) continue;
            if (!double.IsFinite(y)) throw new IncomparableException($"the output '{name}' is not finite after compression and was before");
            sums.Dot += x * y;
            sums.Before += x * x;
            sums.After += y * y;
            sums.Difference += (x - y) * (x - y);
        }
    }

    private void Classes(TensorValue a, TensorValue b, long[]? labels)
    {
        if (!ElementTypes.IsFloat(a.Type) || a.Shape.Length == 0 || a.Shape.Any(d => d == 0)) return;
        // [N, C, H, W] has its classes second; everything else last.
        var axis = a.Shape.Length >= 4 ? 1 : a.Shape.Length - 1;
        var classes = (int)a.Shape[axis];
        var inner = (int)a.Shape[(axis + 1)..].Aggregate(1L, (x, y) => x * y);
        var outer = (int)a.Shape[..axis].Aggregate(1L, (x, y) => x * y);
        for (var o = 0; o < outer; o++)
        {
            for (var n = 0; n < inner; n++)
            {
                var (x, y) = (Best(a, o * classes * inner + n, classes, inner), Best(b, o * classes * inner + n, classes, inner));
                rows++;
                if (x == y) agreeing++;
                if (labels is null || labels.Length != outer * inner) continue;
                var label = labels[o * inner + n];
                labelled++;
                if (x == label) rightBefore++;
                if (y == label) rightAfter++;
            }
        }
    }

    private static int Best(TensorValue t, int start, int classes, int stride)
    {
        if (classes == 1) return ElementTypes.Get(t.Bytes, t.Type, start) > 0.5 ? 1 : 0;
        var (best, most) = (0, double.NegativeInfinity);
        for (var c = 0; c < classes; c++)
        {
            var v = ElementTypes.Get(t.Bytes, t.Type, start + c * stride);
            if (v > most) (best, most) = (c, v);
        }
        return best;
    }
}

/// <summary>Outputs of a compressed model have nothing to do with the original's.</summary>
/// <param name="why">What became of them, as the middle of a sentence.</param>
public sealed class IncomparableException(string why) : Exception(why);
