using System.Text.Json;

namespace Serverless.Core.Execution;

/// <summary>
/// A table of operators and shapes with the time that each takes on this machine: what is asked for is measured once. It is kept as JSON,
/// of which nothing is believed: what is damaged, or of another machine, is measured again.
/// </summary>
/// <param name="machine">What the times depend on beyond the operator (<see cref="OperatorTimer.Machine"/>).</param>
/// <param name="measure">Milliseconds of a call; null where it cannot be measured.</param>
public sealed class OperatorTimes(string machine, Func<OperatorCall, CancellationToken, double?> measure)
{
    /// <summary>Entries kept, at most: the newest.</summary>
    public const int MostEntries = 50_000;

    /// <summary>Largest table that is read, in bytes.</summary>
    public const long LargestTable = 32L << 20;

    private const int LongestKey = 600;
    private const double LongestTime = 600_000;
    private readonly Dictionary<string, double> times = new(StringComparer.Ordinal);

    /// <summary>Entries there are.</summary>
    public int Count => times.Count;

    /// <summary>Entries that were measured, not read.</summary>
    public int Measured { get; private set; }

    /// <summary>Takes on what a kept table holds; nothing of one that is damaged or of another machine.</summary>
    /// <param name="json">The table, as <see cref="Write"/> left it.</param>
    public void Read(ReadOnlySpan<byte> json)
    {
        Table? table;
        try
        {
            table = JsonSerializer.Deserialize<Table>(json, Json.Options);
        }
        catch (JsonException)
        {
            return;
        }
        if (table is not { Version: Table.Current, Times: { } kept } || table.Machine != machine)
            return;
        foreach (var (key, time) in kept.Take(MostEntries))
            if (key.Length <= LongestKey && time is > 0 and < LongestTime)
                times.TryAdd(key, time);
    }

    /// <summary>The table as JSON.</summary>
    public byte[] Write() =>
        JsonSerializer.SerializeToUtf8Bytes(
            new Table(Table.Current, machine, times.TakeLast(MostEntries).ToDictionary(t => t.Key, t => t.Value)),
            Json.Options
        );

    /// <summary>Milliseconds of a call: from the table, else measured.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellation">Cancels a measurement.</param>
    /// <returns>Null where it cannot be measured.</returns>
    public double? Milliseconds(OperatorCall call, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var key = call.Key;
        if (key.Length > LongestKey)
            return null;
        if (times.TryGetValue(key, out var known))
            return known;
        if (measure(call, cancellation) is not (> 0 and < LongestTime and var time))
            return null;
        Measured++;
        return times[key] = time;
    }

    private sealed record Table(int Version, string Machine, Dictionary<string, double>? Times)
    {
        public const int Current = 1;
    }
}
