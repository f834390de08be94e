using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// What a host gives an orchestration. The orchestration is ordinary async code that must be deterministic: all that
/// is not (work, time, events) comes through here, so that it can be replayed.
/// </summary>
public interface IOrchestration
{
    /// <summary>The id of this orchestration; that of the run, unless it is a part of one.</summary>
    string Id { get; }

    /// <summary>The time, the same on replay.</summary>
    DateTime UtcNow { get; }

    /// <summary>Runs an activity, with <see cref="Retries"/> around it; its result is kept and not computed again on replay.</summary>
    /// <typeparam name="TActivity">The activity.</typeparam>
    /// <typeparam name="TInput">Its input record.</typeparam>
    /// <typeparam name="TOutput">Its output record.</typeparam>
    Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull;

    /// <summary>Runs another orchestration as a part of this one, with a history of its own.</summary>
    /// <param name="id">Its id, unique and the same on replay.</param>
    /// <param name="input">Its input record.</param>
    Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string id, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull;

    /// <summary>Waits for an event from outside; null when <paramref name="timeout"/> passes first.</summary>
    Task<string?> WaitForEventAsync(string name, TimeSpan timeout);

    /// <summary>Lets time pass, through a restart of the host too.</summary>
    Task SleepAsync(TimeSpan time);

    /// <summary>Shows how far the run is.</summary>
    void SetStatus(RunStatus status);

    /// <summary>Says a line once, however often the orchestration is replayed.</summary>
    void Log(string line);
}

/// <summary>One orchestration: input record → output record, by way of activities.</summary>
/// <typeparam name="TInput">Input record.</typeparam>
/// <typeparam name="TOutput">Output record.</typeparam>
public abstract class Orchestration<TInput, TOutput>
{
    /// <summary>Runs it.</summary>
    public abstract Task<TOutput> RunAsync(IOrchestration host, TInput input);
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
    string Stage,
    int Attempt,
    int LayersDone,
    int LayersTotal,
    long BytesDone,
    long BytesTotal,
    long BytesSaved,
    CompressedLayer? Layer
)
{
    /// <summary>The stage in which layers are compressed.</summary>
    public const string Compress = "Compress";

    /// <summary>What the ids of the parts begin with whose own statuses say more, or null when there are none.</summary>
    public string? Parts { get; init; }

    /// <summary>The status of a stage.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="attempt">The attempt, from 1.</param>
    /// <param name="plan">The plan, where there is one.</param>
    /// <param name="done">The layers that are compressed.</param>
    public static RunStatus Of(string stage, int attempt, Planned? plan, LayersDone? done = null) =>
        new(stage, attempt, done?.Count ?? 0, plan?.Layers ?? 0, done?.BytesBefore ?? 0, plan?.Bytes ?? 0, done?.BytesSaved ?? 0, null);

    /// <summary>The status of a run whose layers are compressed in parts.</summary>
    /// <param name="parts">The parts' own statuses, finished ones included, the one that changed last at the end.</param>
    public RunStatus With(IReadOnlyCollection<RunStatus> parts) =>
        parts.Sum(p => p.LayersDone) <= LayersDone
            ? this
            : this with
            {
                LayersDone = parts.Sum(p => p.LayersDone),
                BytesDone = parts.Sum(p => p.BytesDone),
                BytesSaved = parts.Sum(p => p.BytesSaved),
                Layer = parts.LastOrDefault(p => p.Layer is not null)?.Layer ?? Layer,
            };
}

/// <summary>How often and how fast an activity is tried again when it fails for a reason that may pass.</summary>
public static class Retries
{
    /// <summary>Attempts in all.</summary>
    public const int MaxAttempts = 3;

    /// <summary>Pause before the second attempt; doubled for each after it.</summary>
    public static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(200);

    /// <summary>Limit of one attempt.</summary>
    public static readonly TimeSpan ActivityTimeout = TimeSpan.FromHours(1);

    /// <summary>Whether trying again can help: input errors and cancellation stay what they are.</summary>
    public static bool MayPass(Exception e) => e is not EndOfStreamException && NetworkResilience.MayPass(e);
}
