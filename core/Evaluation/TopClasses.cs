using System.Buffers;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Decisions of a model's first output: the largest class of each row (for one class, the side of 0.5), or the labels
/// themselves where it is a vector of strings or whole numbers.
/// </summary>
internal sealed class TopClasses
{
    /// <summary>Rows of the output.</summary>
    public long Rows { get; private set; }

    /// <summary>Rows decided alike.</summary>
    public long Agreeing { get; private set; }

    /// <summary>Rows with a label.</summary>
    public long Labelled { get; private set; }

    /// <summary>Labelled rows that the original decides right.</summary>
    public long RightBefore { get; private set; }

    /// <summary>Labelled rows that the compressed model decides right.</summary>
    public long RightAfter { get; private set; }

    /// <summary>Labels that are no classes of the output.</summary>
    public long Outside { get; private set; }

    /// <summary>Adds a sample's output; rows that only one model has are decided differently.</summary>
    public void Add(TensorValue before, TensorValue after, long[]? labels)
    {
        var (a, b) = (Decisions(before), Decisions(after));
        if (a is null || b is null)
            return;
        Rows += Math.Max(a.Length, b.Length);
        for (var r = 0; r < Math.Min(a.Length, b.Length); r++)
            if (a[r] == b[r])
                Agreeing++;
        if (labels is null || labels.Length != a.Length || before.Type == TensorElementType.String)
            return;
        for (var r = 0; r < a.Length; r++)
        {
            Labelled++;
            if (labels[r] < 0 || labels[r] >= Classes(before))
                Outside++;
            if (a[r] == labels[r])
                RightBefore++;
            if (r < b.Length && b[r] == labels[r])
                RightAfter++;
        }
    }

    private static long Classes(TensorValue t)
    {
        if (!ElementTypes.IsFloat(t.Type))
            return long.MaxValue;
        var classes = t.Shape[t.Shape.Length >= 4 ? 1 : t.Shape.Length - 1];
        return classes == 1 ? 2 : classes;
    }

    private static long[]? Decisions(TensorValue t)
    {
        if (t.Type == TensorElementType.String || t.Type is TensorElementType.Int64 or TensorElementType.Int32 && t.Shape.Length == 1)
        {
            var codes = t.Type == TensorElementType.String ? TensorElementType.Int64 : t.Type;
            return [.. Enumerable.Range(0, (int)t.Elements).Select(i => (long)ElementTypes.Get(t.Bytes, codes, i))];
        }
        if (!ElementTypes.IsFloat(t.Type) || t.Shape.Length == 0 || t.Shape.Any(d => d == 0))
            return null;
        // [N, C, H, W] has its classes second; everything else last.
        var axis = t.Shape.Length >= 4 ? 1 : t.Shape.Length - 1;
        var classes = (int)t.Shape[axis];
        var inner = (int)t.Shape[(axis + 1)..].Aggregate(1L, (x, y) => x * y);
        var outer = (int)t.Shape[..axis].Aggregate(1L, (x, y) => x * y);
        var decisions = new long[outer * inner];
        var scores = ArrayPool<double>.Shared.Rent(classes * inner);
        for (var o = 0; o < outer; o++)
        {
            ElementTypes.Read(t.Bytes, t.Type, o * classes * inner, scores.AsSpan(0, classes * inner));
            for (var n = 0; n < inner; n++)
                decisions[o * inner + n] = Best(scores, n, classes, inner);
        }
        ArrayPool<double>.Shared.Return(scores);
        return decisions;
    }

    private static int Best(double[] scores, int start, int classes, int stride)
    {
        if (classes == 1)
            return scores[start] > 0.5 ? 1 : 0;
        var (best, most) = (0, double.NegativeInfinity);
        for (var c = 0; c < classes; c++)
        {
            var v = scores[start + c * stride];
            if (v > most)
                (best, most) = (c, v);
        }
        return best;
    }
}
