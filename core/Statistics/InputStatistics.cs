namespace Serverless.Core.Statistics;

/// <summary>What is kept of a value.</summary>
[Flags]
public enum StatisticKinds
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Minimum and maximum, over all and as a moving average.</summary>
    Range = 1,

    /// <summary>A histogram.</summary>
    Histogram = 2,

    /// <summary>Of each channel: minimum, maximum, and the sums of values and magnitudes.</summary>
    Channels = 4,

    /// <summary>The Gram matrix XᵀX of its rows.</summary>
    Gram = 8,

    /// <summary>The sums of squares of the columns of its rows: the diagonal of the Gram matrix, which has them too.</summary>
    Squares = 16,
}

/// <summary>
/// Minimum and maximum averaged over samples with a decaying weight, r ← (1 − c)·r + c·x with c = 0.01 (Jacob et al. 2018,
/// section 3.1), kept so that the averages of consecutive parts join exactly: value = Carry · before + what the part adds.
/// </summary>
/// <param name="Carry">Weight of what came before.</param>
/// <param name="Min">What the part adds to the minimum.</param>
/// <param name="Max">What it adds to the maximum.</param>
public readonly record struct MovingRange(double Carry, double Min, double Max)
{
    private const double Rate = 0.01;

    /// <summary>Of no samples.</summary>
    public static MovingRange Empty => new(1, 0, 0);

    /// <summary>One sample more.</summary>
    public MovingRange Then(float min, float max) => new((1 - Rate) * Carry, (1 - Rate) * Min + Rate * min, (1 - Rate) * Max + Rate * max);

    /// <summary>Those of a later part after these.</summary>
    public MovingRange Then(MovingRange later) => new(Carry * later.Carry, later.Carry * Min + later.Min, later.Carry * Max + later.Max);

    /// <summary>The average range; weights of the samples sum to one.</summary>
    public (float Min, float Max) Value => Carry >= 1 ? (0, 0) : ((float)(Min / (1 - Carry)), (float)(Max / (1 - Carry)));
}

/// <summary>Figures of the channels of a value.</summary>
/// <param name="Min">Smallest value of each, or 0 where all are positive.</param>
/// <param name="Max">Largest value of each, or 0 where all are negative.</param>
/// <param name="Sum">Sum of each.</param>
/// <param name="Magnitudes">Sum of the magnitudes of each.</param>
/// <param name="Count">Values of a channel.</param>
public sealed record ChannelStatistics(float[] Min, float[] Max, double[] Sum, double[] Magnitudes, long Count)
{
    /// <summary>Number of channels.</summary>
    public int Channels => Min.Length;

    /// <summary>Largest magnitude of a channel.</summary>
    public float Largest(int channel) => MathF.Max(-Min[channel], Max[channel]);
}

/// <summary>What is known of a layer's input, from samples that the model was run on.</summary>
/// <param name="Samples">Samples seen.</param>
/// <param name="Min">Smallest value.</param>
/// <param name="Max">Largest value.</param>
/// <param name="Average">The moving average of both.</param>
public sealed record InputStatistics(long Samples, float Min, float Max, MovingRange Average)
{
    /// <summary>Largest magnitude of the sample where that is smallest; 0 where no sample holds anything but zeros.</summary>
    public float Quietest { get; init; }

    /// <summary>The histogram, when asked for.</summary>
    public Histogram? Histogram { get; init; }

    /// <summary>The channels, when asked for.</summary>
    public ChannelStatistics? Channels { get; init; }

    /// <summary>‖x‖² of each column x of its rows, for each group of channels, when asked for without the Gram matrix.</summary>
    public double[][]? Squares { get; init; }

    /// <summary>Rows that went into each group's squares.</summary>
    public long SquaresRows { get; init; }

    /// <summary>Order of the Gram matrices; 0 when not asked for.</summary>
    public int GramAxis { get; init; }

    /// <summary>Gram matrices: one a group of channels.</summary>
    public int GramGroups { get; init; }

    /// <summary>Rows that went into each Gram matrix.</summary>
    public long GramRows { get; init; }

    /// <summary>Reads the Gram matrix of a group: GramAxis² doubles, row-major.</summary>
    public Func<int, CancellationToken, Task<double[]>>? ReadGramAsync { get; init; }
}
