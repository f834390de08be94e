namespace Serverless.Core.Runs;

/// <summary>Lets work in while the memory it asks for fits a budget; work larger than the budget runs alone.</summary>
public sealed class MemoryGate(long budget)
{
    private readonly Queue<(long Bytes, TaskCompletionSource Entered)> waiting = new();
    private readonly Lock gate = new();
    private long held;

    /// <summary>The budget in bytes.</summary>
    public long Budget => budget;

    /// <summary>Waits for room; dispose the result to give it back.</summary>
    public async Task<IDisposable> EnterAsync(long bytes, CancellationToken cancellation)
    {
        bytes = Math.Min(bytes, budget);
        var entered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (gate)
        {
            if (waiting.Count == 0 && held + bytes <= budget)
            {
                held += bytes;
                entered.SetResult();
            }
            else
                waiting.Enqueue((bytes, entered));
        }
        try
        {
            await entered.Task.WaitAsync(cancellation);
        }
        catch (OperationCanceledException)
        {
            if (!entered.TrySetCanceled(cancellation))
                Leave(bytes);
            throw;
        }
        return new Held(() => Leave(bytes));
    }

    private void Leave(long bytes)
    {
        lock (gate)
        {
            held -= bytes;
            while (waiting.TryPeek(out var next) && (held + next.Bytes <= budget || next.Entered.Task.IsCompleted))
            {
                waiting.Dequeue();
                if (next.Entered.TrySetResult())
                    held += next.Bytes;
            }
        }
    }

    private sealed class Held(Action leave) : IDisposable
    {
        private Action? leave = leave;

        public void Dispose() => Interlocked.Exchange(ref leave, null)?.Invoke();
    }
}
