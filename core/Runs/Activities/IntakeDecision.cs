using System.Text.Json;
using System.Text.Json.Nodes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// What an event from outside asks a host to do: one of the two, or nothing. Doing it twice is doing it once: a run is started
/// under its id, and a run drops an event whose request it has taken (<see cref="TakenRequests"/>).
/// </summary>
/// <param name="Start">A drop to run, under its run id.</param>
/// <param name="Raise">An event to raise in a run that waits for it.</param>
public sealed record IntakeDecision(DropRequest? Start, RaisedEvent? Raise)
{
    /// <summary>Nothing to do.</summary>
    public static IntakeDecision Nothing { get; } = new(null, null);

    /// <summary>Store path of the mark that says it was carried out; null where nobody asks.</summary>
    public string? Mark { get; init; }

    /// <summary>
    /// Carries it out, and marks it as carried out after that: a request that failed leaves no mark and may come again. Of two that come
    /// at the same time both are carried out, which is the same as once.
    /// </summary>
    /// <param name="store">The store.</param>
    /// <param name="act">Carries it out.</param>
    /// <param name="cancellation">Cancels it, the mark excepted.</param>
    public async Task<T> CarryOutAsync<T>(IArtifactStore store, Func<CancellationToken, Task<T>> act, CancellationToken cancellation)
    {
        var done = await act(cancellation);
        if (Mark is { } mark)
            await store.TryCreateAsync(mark, ReadOnlyMemory<byte>.Empty, CancellationToken.None);
        return done;
    }
}

/// <summary>An event for a run.</summary>
/// <param name="RunId">The run.</param>
/// <param name="Name">The event.</param>
/// <param name="Payload">What it says, as JSON; with the property <c>request</c> where the sender's request has an id.</param>
public sealed record RaisedEvent(string RunId, string Name, string Payload)
{
    internal const string Request = "request";

    internal static RaisedEvent Of<T>(string runId, string name, T says, string? request)
    {
        var payload = JsonSerializer.SerializeToNode(says, Json.Options)!.AsObject();
        if (request is not null)
            payload[Request] = request;
        return new RaisedEvent(runId, name, payload.ToJsonString(Json.Options));
    }
}

/// <summary>
/// The requests whose events a run has taken: delivered again, an event is dropped. Deterministic, so that a host may replay it.
/// </summary>
public sealed class TakenRequests
{
    private readonly HashSet<string> taken = new(StringComparer.Ordinal);

    /// <summary>Whether an event is to be taken; one without an id always is.</summary>
    /// <param name="payload">The event, as <see cref="RaisedEvent.Payload"/>.</param>
    public bool Take(string payload) => IdOf(payload) is not { } id || taken.Add(id);

    private static string? IdOf(string payload)
    {
        try
        {
            var id = JsonNode.Parse(payload) is JsonObject says ? says[RaisedEvent.Request] as JsonValue : null;
            return id?.TryGetValue<string>(out var text) == true ? text : null;
        }
        catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)
        {
            // Not JSON, a name twice, half a surrogate pair: not one of ours, and for the run to judge.
            return null;
        }
    }
}
