using System.Buffers;
using Serverless.Core.Execution;

namespace Serverless.Core.Runs;

/// <summary>The squared relative error of a value over samples.</summary>
/// <param name="value">The value's name.</param>
/// <param name="softmax">The axis over which a Softmax takes it, so that what is the same for a row does not count; else null.</param>
internal sealed class ValueError(string value, long? softmax)
{
    private const int Block = 4096;
    private double before,
        difference;

    /// <summary>The value's name.</summary>
    public string Value => value;

    /// <summary>Whether the changed model has no such value.</summary>
    public bool IsLost { get; set; }

    /// <summary>‖a − b‖² / ‖a‖²; where a is zero, 1, or 0 for the same.</summary>
    public double Relative =>
        before == 0
            ? difference == 0
                ? 0
                : 1
            : difference / before;

    /// <summary>Adds a sample; values of other sizes are not compared.</summary>
    public void Add(TensorValue expected, TensorValue actual)
    {
        var size = ElementTypes.Size(expected.Type);
        var count = size == 0 || actual.Bytes.Length != expected.Bytes.Length ? 0 : expected.Bytes.Length / size;
        var normalized = softmax is { } axis && expected.Shape.Length > 0 && (axis == -1 || axis == expected.Shape.Length - 1);
        var row = normalized ? (int)expected.Shape[^1] : Block;
        var (wanted, got) = (ArrayPool<double>.Shared.Rent(row), ArrayPool<double>.Shared.Rent(row));
        for (var start = 0; start < count; start += row)
        {
            var a = wanted.AsSpan(0, Math.Min(row, count - start));
            var b = got.AsSpan(0, a.Length);
            ElementTypes.Read(expected.Bytes, expected.Type, start, a);
            ElementTypes.Read(actual.Bytes, actual.Type, start, b);
            if (normalized)
                Add(a, b, Mean(a), Mean(b));
            else
                Add(a, b, 0, 0);
        }
        ArrayPool<double>.Shared.Return(wanted);
        ArrayPool<double>.Shared.Return(got);
    }

    private void Add(ReadOnlySpan<double> expected, ReadOnlySpan<double> actual, double from, double to)
    {
        for (var i = 0; i < expected.Length; i++)
        {
            var wanted = expected[i] - from;
            if (!double.IsFinite(wanted))
                continue;
            var got = actual[i] - to;
            // What became undefined counts as turned round.
            var d = double.IsFinite(got) ? wanted - got : 2 * wanted;
            before += wanted * wanted;
            difference += d * d;
        }
    }

    private static double Mean(ReadOnlySpan<double> values)
    {
        double sum = 0;
        foreach (var v in values)
            sum += v;
        return sum / values.Length;
    }
}
