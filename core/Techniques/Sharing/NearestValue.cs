namespace Serverless.Core.Techniques.Sharing;

/// <summary>The nearest value of a codebook.</summary>
internal sealed class NearestValue
{
    private readonly float[] middles;
    private readonly int[] symbols;
    private readonly bool zeroApart;

    /// <summary>Sorts a codebook.</summary>
    /// <param name="values">The values.</param>
    /// <param name="hasZero">Whether the first is zero.</param>
    /// <param name="zeroApart">Whether zero is the first's, and no other weight is.</param>
    public NearestValue(ReadOnlySpan<float> values, bool hasZero, bool zeroApart)
    {
        this.zeroApart = zeroApart && hasZero;
        var sorted = values.ToArray();
        symbols = [.. Enumerable.Range(0, sorted.Length)];
        var first = this.zeroApart && sorted.Length > 1 ? 1 : 0;
        Array.Sort(sorted, symbols, first, sorted.Length - first);
        (sorted, symbols) = (sorted[first..], symbols[first..]);
        middles = [.. sorted.Zip(sorted.Skip(1), (a, b) => (float)(((double)a + b) / 2))];
    }

    /// <summary>The symbol of the value that is nearest to a weight.</summary>
    public int Of(float weight)
    {
        if (zeroApart && weight == 0)
            return 0;
        var (low, high) = (0, middles.Length);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (middles[middle] < weight)
                low = middle + 1;
            else
                high = middle;
        }
        return symbols[low];
    }
}
