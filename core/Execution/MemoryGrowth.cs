namespace Serverless.Core.Execution;

/// <summary>By how much this process grew at most since a moment, looked at every few milliseconds.</summary>
internal sealed class MemoryGrowth : IDisposable
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(2);
    private readonly long before = Environment.WorkingSet;
    private readonly Peak peak = new();
    private readonly Timer timer;

    /// <summary>Begins to look.</summary>
    public MemoryGrowth() => timer = new Timer(_ => Look(), null, Poll, Poll);

    /// <summary>The growth so far, in resident bytes; 0 where there was none.</summary>
    public long Bytes
    {
        get
        {
            Look();
            return peak.Value;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => timer.Dispose();

    private void Look() => peak.See(Environment.WorkingSet - before);
}
