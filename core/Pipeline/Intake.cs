using System.Text.Json;
using Serverless.Core.Events;
using Serverless.Core.Storage;

namespace Serverless.Core.Pipeline;

/// <summary>What an event from outside asks a host to do: one of the two, or nothing.</summary>
/// <param name="Start">A drop to run, under its run id.</param>
/// <param name="Raise">An event to raise in a run that waits for it.</param>
public sealed record IntakeDecision(DropRequest? Start, RaisedEvent? Raise)
{
    /// <summary>Nothing to do.</summary>
    public static IntakeDecision Nothing { get; } = new(null, null);
}

/// <summary>An event for a run.</summary>
/// <param name="RunId">The run.</param>
/// <param name="Name">The event.</param>
/// <param name="Payload">What it says, as JSON.</param>
public sealed record RaisedEvent(string RunId, string Name, string Payload);

/// <summary>Decides what drop events and hooks mean; a host carries it out.</summary>
public static class Intake
{
    /// <summary>Store folder of signatures that were taken, so that none is taken twice.</summary>
    public const string Seen = "work/hooks";

    /// <summary>What an event of Event Grid means.</summary>
    /// <exception cref="BadInputException">It is no event, or names a model that cannot be.</exception>
    public static async Task<IntakeDecision> OfEventAsync(IArtifactStore store, string json, CancellationToken cancellation)
    {
        if (IncomingEvent.Read(json) is not { } incoming) return IntakeDecision.Nothing;
        if (incoming.Dropped is not { } path) return await OfRetrainedAsync(store, new RetrainedModel(incoming.Retrained!, incoming.Run, incoming.Predecessor), cancellation);
        if (!path.StartsWith(StoredDrop.Container + "/", StringComparison.Ordinal)) return IntakeDecision.Nothing;
        return await DropRequest.OfAsync(store, path, null, cancellation) is { } request ? new IntakeDecision(request, null) : IntakeDecision.Nothing;
    }

    /// <summary>What a signed hook means; its body is a <see cref="RetrainedModel"/>.</summary>
    /// <param name="store">The store.</param>
    /// <param name="secret">The shared secret.</param>
    /// <param name="timestamp">Header <see cref="WebhookSignature.TimestampHeader"/>.</param>
    /// <param name="signature">Header <see cref="WebhookSignature.SignatureHeader"/>.</param>
    /// <param name="body">The body, as it came.</param>
    /// <param name="now">The time.</param>
    /// <param name="cancellation">Cancels the call.</param>
    /// <exception cref="UnauthorizedAccessException">The signature is wrong, too old, or was taken before.</exception>
    /// <exception cref="BadInputException">The body makes no sense.</exception>
    public static async Task<IntakeDecision> OfHookAsync(
        IArtifactStore store, string secret, string? timestamp, string? signature, ReadOnlyMemory<byte> body, DateTimeOffset now, CancellationToken cancellation)
    {
        if (WebhookSignature.WhyRefused(secret, timestamp, signature, body.Span, now) is { } why) throw new UnauthorizedAccessException($"Refused: {why}.");
        if (!await store.TryCreateAsync($"{Seen}/{signature![3..]}", ReadOnlyMemory<byte>.Empty, cancellation)) throw new UnauthorizedAccessException("Refused: this request was taken already.");
        RetrainedModel? model;
        try
        {
            model = JsonSerializer.Deserialize<RetrainedModel>(body.Span, Json.Options);
        }
        catch (JsonException e)
        {
            throw new BadInputException("the body is not {\"model\": \"retrained/…\", \"run\"?, \"predecessor\"?}.", e);
        }
        return await OfRetrainedAsync(store, model!, cancellation);
    }

    private static async Task<IntakeDecision> OfRetrainedAsync(IArtifactStore store, RetrainedModel model, CancellationToken cancellation)
    {
        if (model?.Model is not { } path || !path.StartsWith(StoredDrop.Retrained + "/", StringComparison.Ordinal) || StorePath.WhyUnsafe(path) is not null)
            throw new BadInputException($"'model' must be a blob in the container '{StoredDrop.Retrained}'; upload the retrained model there and name it as {StoredDrop.Retrained}/NAME.onnx.");
        if (await store.FindAsync(path, cancellation) is null) throw new BadInputException($"{path}: there is no such blob; upload the retrained model first.");
        if (model.Run is { Length: > 0 } run) return new IntakeDecision(null, new RaisedEvent(run, CompressionRun.RetrainedEvent, JsonSerializer.Serialize(model, Json.Options)));
        var predecessor = model.Predecessor is { Length: > 0 } p ? RunNames.Output(p) : null;
        if (predecessor is not null && StorePath.WhyUnsafe(predecessor) is not null) throw new BadInputException("'predecessor' is not the id of a run.");
        var request = await DropRequest.OfAsync(store, path, predecessor, cancellation)
            ?? throw new BadInputException($"{path}: no drop is there; a drop is NAME.onnx, or a folder NAME/ that holds exactly one .onnx.");
        return new IntakeDecision(request, null);
    }
}
