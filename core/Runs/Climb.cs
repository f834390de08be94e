namespace Serverless.Core.Runs;

/// <summary>
/// The search for the fewest moves to gentler settings that hold the loss budget. Moves are counted from an attempt that was over the
/// loss. Each attempt that is over it too becomes the next base, and twice as many moves follow. Once an attempt holds the budget, the
/// moves behind the last base are bisected.
/// </summary>
/// <param name="Base">The attempt that moves start from.</param>
/// <param name="Bytes">Size of its result.</param>
/// <param name="Round">How often the number of moves was doubled.</param>
/// <param name="Low">Moves known to be too few.</param>
/// <param name="High">Moves known to be enough; null while none are.</param>
public sealed record Climb(int Base, long Bytes, int Round, int Low, int? High)
{
    private const int FirstShare = 16;

    // Attempts whose sizes differ by a smaller share count as equal.
    private const double SameSize = 0.002;

    /// <summary>A search that begins at an attempt.</summary>
    /// <param name="over">An attempt over its budget.</param>
    public static Climb From(Attempt over) => new(over.Number, over.Assembled.Bytes, 0, 0, null);

    /// <summary>The search after one more attempt.</summary>
    /// <param name="made">The attempt.</param>
    /// <param name="moves">Its moves.</param>
    /// <param name="holds">Whether it holds the budget.</param>
    public Climb After(Attempt made, int moves, bool holds)
    {
        if (holds)
            return this with { High = moves };
        return High is null ? From(made) with { Round = Round + 1 } : this with { Low = moves };
    }

    /// <summary>Moves that the next attempt may make at most.</summary>
    /// <param name="layers">Layers that can move.</param>
    public int Most(int layers) => High ?? Math.Max(1, (int)Math.Ceiling(layers * Math.Pow(2, Round) / FirstShare));

    /// <summary>Moves of the next attempt; 0 where none is worth trying.</summary>
    /// <param name="sizes">Foreseen size in bytes after each move, as many as <see cref="Most"/> allows.</param>
    public int Next(IReadOnlyList<long> sizes)
    {
        if (High is null)
            return sizes.Count;
        var (few, enough) = (Size(Low), Size(sizes.Count));
        return sizes.Count - Low <= 1 || enough - few < SameSize * Bytes
            ? 0
            : Enumerable.Range(Low + 1, sizes.Count - Low - 1).MinBy(i => Math.Abs(2 * Size(i) - few - enough));

        long Size(int moves) => moves == 0 ? Bytes : sizes[moves - 1];
    }
}
