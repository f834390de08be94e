namespace Serverless.Core.Execution;

/// <summary>
/// The time of one operator by its outputs and inputs: measured at a grid of channel counts, between them along straight lines. More
/// channels never take less. Tables of measured operators are those of HALP (Shen et al. 2022, section 3.1), Kwon et al. 2022 ("A Fast
/// Post-Training Pruning Framework for Transformers", section 4.1) and ZipLM (Kurtic et al. 2023, section 3.2).
/// </summary>
public sealed class ChannelTimes
{
    private const int Multiple = 8;
    private static readonly double[] Shares = [0.1, 0.4, 0.7, 1];
    private readonly long[] outputs,
        inputs;
    private readonly double[,] times;

    private ChannelTimes(long[] outputs, long[] inputs, double[,] times) =>
        (this.outputs, this.inputs, this.times) = (outputs, inputs, times);

    /// <summary>Measures.</summary>
    /// <param name="outputs">How many outputs there are, and whether some may go.</param>
    /// <param name="inputs">How many inputs there are, and whether some may go.</param>
    /// <param name="measure">Milliseconds with so many outputs and inputs; null where that cannot be measured.</param>
    /// <returns>Null where some point of the grid cannot be measured.</returns>
    public static ChannelTimes? Of((long Count, bool Shrinks) outputs, (long Count, bool Shrinks) inputs, Func<long, long, double?> measure)
    {
        var (rows, columns) = (Levels(outputs), Levels(inputs));
        var times = new double[rows.Length, columns.Length];
        for (var r = 0; r < rows.Length; r++)
        for (var c = 0; c < columns.Length; c++)
        {
            if (measure(rows[r], columns[c]) is not { } time)
                return null;
            times[r, c] = Math.Max(time, Math.Max(r > 0 ? times[r - 1, c] : 0, c > 0 ? times[r, c - 1] : 0));
        }
        return new ChannelTimes(rows, columns, times);
    }

    /// <summary>Milliseconds with some outputs and inputs; outside of the grid those of its edge.</summary>
    public double At(double outputs, double inputs)
    {
        var (r, row) = Place(this.outputs, outputs);
        var (c, column) = Place(this.inputs, inputs);
        var (below, right) = (Math.Min(r + 1, this.outputs.Length - 1), Math.Min(c + 1, this.inputs.Length - 1));
        var first = times[r, c] + (times[r, right] - times[r, c]) * column;
        var second = times[below, c] + (times[below, right] - times[below, c]) * column;
        return first + (second - first) * row;
    }

    private static (int Index, double Share) Place(long[] levels, double value)
    {
        var at = 0;
        while (at + 2 < levels.Length && levels[at + 1] <= value)
            at++;
        return levels.Length == 1 ? (0, 0) : (at, Math.Clamp((value - levels[at]) / (levels[at + 1] - levels[at]), 0, 1));
    }

    private static long[] Levels((long Count, bool Shrinks) axis) =>
        !axis.Shrinks ? [axis.Count] : [.. Shares.Select(s => Rounded(axis.Count, s)).Distinct().Order()];

    // What is left of many channels is a multiple of 8; all of them need not be.
    private static long Rounded(long count, double share) =>
        share == 1 ? count
        : count < 2 * Multiple ? Math.Max(1, (long)Math.Round(share * count))
        : Math.Max(1, (long)Math.Round(share * count / Multiple)) * Multiple;
}
