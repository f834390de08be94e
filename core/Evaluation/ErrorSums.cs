using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>Sums over the elements of an output from which its cosine and its relative error follow.</summary>
/// <param name="isFloat">Whether its elements are real numbers.</param>
internal sealed class ErrorSums(bool isFloat)
{
    private const int Block = 512;
    private double dot,
        before,
        after,
        difference;

    /// <summary>Whether its elements are real numbers.</summary>
    public bool IsFloat => isFloat;

    /// <summary>Elements compared.</summary>
    public long Compared { get; private set; }

    /// <summary>Elements that became NaN or infinite.</summary>
    public long NonFinite { get; private set; }

    /// <summary>Whether a number was compared that is not zero in both models.</summary>
    public bool Tells => before > 0 || after > 0;

    /// <summary>Σab / √(Σa²·Σb²); 0 where one alone is zero.</summary>
    public double Cosine => before == 0 || after == 0 ? 0 : Math.Min(1, dot / Math.Sqrt(before) / Math.Sqrt(after));

    /// <summary>‖a − b‖ / ‖a‖; 1 where only the original is zero.</summary>
    public double RelativeError => before == 0 ? 1 : Math.Sqrt(difference / before);

    /// <summary>Adds a sample's output; elements that only one has are compared with zero.</summary>
    public void Add(TensorValue a, TensorValue b)
    {
        if (a.Shape.SequenceEqual(b.Shape))
        {
            Span<double> x = stackalloc double[Block],
                y = stackalloc double[Block];
            for (var start = 0; start < a.Elements; start += Block)
            {
                var count = (int)Math.Min(Block, a.Elements - start);
                ElementTypes.Read(a.Bytes, a.Type, start, x[..count]);
                ElementTypes.Read(b.Bytes, b.Type, start, y[..count]);
                for (var i = 0; i < count; i++)
                    Add(x[i], y[i]);
            }
            return;
        }
        var aligned = a.Shape.Length == b.Shape.Length;
        for (var i = 0; i < a.Elements; i++)
            Add(At(a, i), Counterpart(i, a, b, aligned) is { } j ? At(b, j) : 0);
        for (var j = 0; j < b.Elements; j++)
            if (Counterpart(j, b, a, aligned) is null && double.IsFinite(At(b, j)))
                Add(0, At(b, j));
    }

    private static double At(TensorValue value, int element) => ElementTypes.Get(value.Bytes, value.Type, element);

    // The element of the same indices; of tensors of different ranks, the one of the same place.
    private static int? Counterpart(int element, TensorValue of, TensorValue other, bool aligned)
    {
        if (!aligned)
            return element < other.Elements ? element : null;
        var (place, stride) = (0L, 1L);
        long rest = element;
        for (var axis = of.Shape.Length - 1; axis >= 0; axis--)
        {
            var index = rest % of.Shape[axis];
            rest /= of.Shape[axis];
            if (index >= other.Shape[axis])
                return null;
            place += index * stride;
            stride *= other.Shape[axis];
        }
        return (int)place;
    }

    private void Add(double x, double y)
    {
        // What the original does not define, the compressed model cannot get wrong.
        if (!double.IsFinite(x))
            return;
        Compared++;
        // What became undefined counts as turned round.
        if (!double.IsFinite(y))
        {
            NonFinite++;
            y = -x;
        }
        dot += x * y;
        before += x * x;
        after += y * y;
        difference += (x - y) * (x - y);
    }
}
