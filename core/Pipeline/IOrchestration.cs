namespace Serverless.Core.Pipeline;

/// <summary>
/// What a host gives an orchestration. The orchestration is ordinary async code that must be deterministic: all that
/// is not (work, time, events) comes through here, so that it can be replayed.
/// </summary>
public interface IOrchestration
{
    /// <summary>The run's id.</summary>
    string RunId { get; }

    /// <summary>The time, the same on replay.</summary>
    DateTime UtcNow { get; }

    /// <summary>Cancelled when the run is.</summary>
    CancellationToken Cancellation { get; }

    /// <summary>Runs an activity, with <see cref="Retries"/> around it; its result is kept and not computed again on replay.</summary>
    /// <typeparam name="TActivity">The activity.</typeparam>
    /// <typeparam name="TInput">Its input record.</typeparam>
    /// <typeparam name="TOutput">Its output record.</typeparam>
    Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull;

    /// <summary>Waits for an event from outside; null when <paramref name="timeout"/> passes first.</summary>
    Task<string?> WaitForEventAsync(string name, TimeSpan timeout);

    /// <summary>Shows how far the run is.</summary>
    void SetStatus(RunStatus status);
}

/// <summary>How far a run is.</summary>
/// <param name="Stage">The step of the flow: Inspect, Plan, Compress, Reassemble, Evaluate, Publish.</param>
/// <param name="Attempt">1 for the first plan.</param>
/// <param name="LayersDone">Layers compressed in this attempt.</param>
/// <param name="LayersTotal">Layers of this attempt.</param>
/// <param name="BytesDone">Bytes of the layers done, before.</param>
/// <param name="BytesTotal">Bytes of all layers, before.</param>
/// <param name="BytesSaved">Bytes saved so far.</param>
/// <param name="Layer">The layer that was finished last, or null.</param>
public sealed record RunStatus(
    string Stage, int Attempt, int LayersDone, int LayersTotal, long BytesDone, long BytesTotal, long BytesSaved, CompressedLayer? Layer);

/// <summary>How often and how fast an activity is tried again when it fails for a reason that may pass.</summary>
public static class Retries
{
    /// <summary>Attempts in all.</summary>
    public const int MaxAttempts = 3;

    /// <summary>Pause before the second attempt; doubled for each after it.</summary>
    public static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(200);

    /// <summary>Whether trying again can help: input errors and cancellation stay what they are.</summary>
    public static bool MayPass(Exception e) => e is IOException and not EndOfStreamException or TimeoutException;
}
