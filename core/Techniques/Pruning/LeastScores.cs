namespace Serverless.Core.Techniques.Pruning;

/// <summary>Finds the least of some scores; of equal ones the first.</summary>
internal static class LeastScores
{
    /// <summary>The score that the least ones stay below, and how many at it are among them.</summary>
    /// <param name="scores">The scores; sorted afterwards.</param>
    /// <param name="count">How many are wanted.</param>
    public static (double Limit, long Ties) Of(Span<double> scores, int count)
    {
        if (count == 0)
            return (double.NegativeInfinity, 0);
        scores.Sort();
        return (scores[count - 1], count - scores.IndexOf(scores[count - 1]));
    }

    /// <summary>Marks the least of a group.</summary>
    /// <param name="scores">At most <see cref="SparsityPattern.MostOf"/>.</param>
    /// <param name="count">How many.</param>
    /// <returns>A bit for each score.</returns>
    public static uint Bits(ReadOnlySpan<double> scores, int count)
    {
        uint bits = 0;
        for (; count > 0; count--)
        {
            var least = -1;
            for (var i = 0; i < scores.Length; i++)
                if ((bits >> i & 1) == 0 && (least < 0 || scores[i] < scores[least]))
                    least = i;
            bits |= 1u << least;
        }
        return bits;
    }
}
