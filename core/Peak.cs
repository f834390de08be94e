namespace Serverless.Core;

/// <summary>The largest value seen so far, by several threads; 0 before any.</summary>
internal sealed class Peak
{
    private long most;

    /// <summary>The largest value.</summary>
    public long Value => Interlocked.Read(ref most);

    /// <summary>Sees a value.</summary>
    public void See(long value)
    {
        for (var seen = Value; value > seen; seen = Value)
            if (Interlocked.CompareExchange(ref most, value, seen) == seen)
                return;
    }
}
