using System.Numerics;

namespace Serverless.Core.Numerics;

/// <summary>The vectors of a codebook, laid out so that the nearest of a vector is found many of them at a time.</summary>
public sealed class Codewords
{
    // Its distance to any weight is infinite.
    private const float Nowhere = 1e30f;
    private readonly float[] turned;
    private readonly int padded;

    /// <summary>Lays out vectors.</summary>
    /// <param name="values">Vector after vector.</param>
    /// <param name="dimension">Elements of a vector.</param>
    public Codewords(ReadOnlySpan<float> values, int dimension)
    {
        (Dimension, Count) = (dimension, values.Length / dimension);
        padded = (Count + Vector<float>.Count - 1) / Vector<float>.Count * Vector<float>.Count;
        turned = new float[padded * dimension];
        turned.AsSpan().Fill(Nowhere);
        for (var word = 0; word < Count; word++)
        for (var place = 0; place < dimension; place++)
            turned[place * padded + word] = values[word * dimension + place];
    }

    /// <summary>How many.</summary>
    public int Count { get; }

    /// <summary>Elements of each.</summary>
    public int Dimension { get; }

    /// <summary>An element of a vector.</summary>
    public float this[int word, int place] => turned[place * padded + word];

    /// <summary>The vector of least Σ weight · (x − c)²; of several, the first.</summary>
    /// <param name="x">As many elements as count: a codeword's further ones do not.</param>
    /// <param name="weights">One an element, or none for 1 each.</param>
    /// <param name="least">That sum.</param>
    public int Nearest(ReadOnlySpan<float> x, ReadOnlySpan<float> weights, out float least)
    {
        var width = Vector<float>.Count;
        var (best, where) = (new Vector<float>(float.PositiveInfinity), Vector<int>.Zero);
        for (var from = 0; from < padded; from += width)
        {
            var sum = Vector<float>.Zero;
            for (var place = 0; place < x.Length; place++)
            {
                var difference = new Vector<float>(x[place]) - new Vector<float>(turned, place * padded + from);
                sum += weights.IsEmpty ? difference * difference : new Vector<float>(weights[place]) * difference * difference;
            }
            var nearer = Vector.LessThan(sum, best);
            best = Vector.ConditionalSelect(nearer, sum, best);
            where = Vector.ConditionalSelect(nearer, new Vector<int>(from), where);
        }
        var found = 0;
        least = float.PositiveInfinity;
        for (var lane = 0; lane < width; lane++)
            if (best[lane] < least || best[lane] == least && where[lane] + lane < found)
                (least, found) = (best[lane], where[lane] + lane);
        return found;
    }
}
