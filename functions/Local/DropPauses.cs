namespace Serverless.Local;

/// <summary>When to go on with a drop whose failure may pass: after a pause that doubles, a few times.</summary>
internal sealed class DropPauses
{
    private readonly Dictionary<string, (int Count, DateTime Until)> pauses = new(StringComparer.Ordinal);
    private readonly Lock gate = new();

    /// <summary>Pauses in all; default 6, which with <see cref="First"/> makes ten minutes.</summary>
    public int Most { get; init; } = 6;

    /// <summary>The first pause; default 10 s.</summary>
    public TimeSpan First { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Begins the next pause of a drop.</summary>
    /// <param name="key">The drop in its present version.</param>
    /// <returns>Its length; null when there were enough.</returns>
    public TimeSpan? Next(string key)
    {
        lock (gate)
        {
            var count = pauses.GetValueOrDefault(key).Count;
            if (count == Most)
                return null;
            var pause = First * Math.Pow(2, count);
            pauses[key] = (count + 1, DateTime.UtcNow + pause);
            return pause;
        }
    }

    /// <summary>Whether a drop's pause is not over.</summary>
    public bool Lasts(string key)
    {
        lock (gate)
            return pauses.TryGetValue(key, out var pause) && DateTime.UtcNow < pause.Until;
    }
}
