using System.Text.Json;
using Serverless.Core.Events;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Decides what drop events and hooks mean; a host carries it out.</summary>
public static class Intake
{
    /// <summary>Store folder of the signatures of requests that were carried out, so that none is carried out twice.</summary>
    public const string Seen = "work/hooks";

    /// <summary>What an event of Event Grid means.</summary>
    /// <exception cref="BadInputException">
    /// It is no event, or names a model that cannot be; of a model where no drop can be, <c>failed/NAME/RUN/error.json</c> says so too.
    /// </exception>
    public static async Task<IntakeDecision> OfEventAsync(IArtifactStore store, string json, CancellationToken cancellation)
    {
        if (IncomingEvent.Read(json) is not { } incoming)
            return IntakeDecision.Nothing;
        if (incoming.Dropped is not { } path)
        {
            var model = new RetrainedModel(incoming.Retrained!, incoming.Run, incoming.Predecessor);
            return await OfRetrainedAsync(store, model, incoming.Id, cancellation);
        }
        if (!path.StartsWith(StoredDrop.Container + "/", StringComparison.Ordinal))
            return IntakeDecision.Nothing;
        if (await DropRequest.OfAsync(store, path, null, cancellation) is { } request)
            return new IntakeDecision(request, null);
        if (StoredDrop.IsModel(path) && await StoredDrop.FindMisplacedAsync(store, path, cancellation) is { } misplaced)
            throw await RefusedAsync(store, misplaced, cancellation);
        return IntakeDecision.Nothing;
    }

    /// <summary>
    /// What a signed hook means; its body is a <see cref="RetrainedModel"/>. The signature counts as taken once the decision was
    /// carried out (<see cref="IntakeDecision.CarryOutAsync"/>), so a request that failed anywhere before may be sent again as it is.
    /// </summary>
    /// <param name="store">The store.</param>
    /// <param name="secret">The shared secret.</param>
    /// <param name="timestamp">Header <see cref="WebhookSignature.TimestampHeader"/>.</param>
    /// <param name="signature">Header <see cref="WebhookSignature.SignatureHeader"/>.</param>
    /// <param name="body">The body, as it came.</param>
    /// <param name="now">The time.</param>
    /// <param name="cancellation">Cancels the call.</param>
    /// <exception cref="UnauthorizedAccessException">The signature is wrong, too old, or was carried out before.</exception>
    /// <exception cref="BadInputException">The body makes no sense.</exception>
    public static async Task<IntakeDecision> OfHookAsync(
        IArtifactStore store,
        string secret,
        string? timestamp,
        string? signature,
        ReadOnlyMemory<byte> body,
        DateTimeOffset now,
        CancellationToken cancellation
    )
    {
        if (WebhookSignature.WhyRefused(secret, timestamp, signature, body.Span, now) is { } why)
            throw new UnauthorizedAccessException($"Refused: {why}.");
        var id = signature![3..];
        var mark = $"{Seen}/{id}";
        if (await store.FindAsync(mark, cancellation) is not null)
            throw new UnauthorizedAccessException("Refused: this request was carried out already.");
        RetrainedModel? model;
        try
        {
            model = JsonSerializer.Deserialize<RetrainedModel>(body.Span, Json.Options);
        }
        catch (JsonException e)
        {
            throw new BadInputException("the body is not {\"model\": \"retrained/…\", \"run\"?, \"predecessor\"?}.", e);
        }
        return await OfRetrainedAsync(store, model!, id, cancellation) with { Mark = mark };
    }

    /// <summary>Why no drop is where a blob lies, in a sentence.</summary>
    public static async Task<BadInputException> NoDropAsync(IArtifactStore store, string path, CancellationToken cancellation) =>
        new(
            await StoredDrop.FindMisplacedAsync(store, path, cancellation) is { } misplaced
                ? misplaced.Why
                : $"{path}: no drop is there; a drop is NAME.onnx, or a folder NAME/ that holds exactly one .onnx."
        );

    private static async Task<BadInputException> RefusedAsync(
        IArtifactStore store,
        MisplacedModel misplaced,
        CancellationToken cancellation
    )
    {
        var id = RunPaths.Id(Path.GetFileNameWithoutExtension(misplaced.Root), misplaced.Parts);
        var context = new ActivityContext(store, new MemoryGate(0));
        if (await store.FindAsync(RunPaths.Failure(id), cancellation) is null)
            await new WriteFailure().RunAsync(new FailureInput(id, misplaced.Root, misplaced.Why), context, cancellation);
        return new BadInputException(misplaced.Why);
    }

    private static async Task<IntakeDecision> OfRetrainedAsync(
        IArtifactStore store,
        RetrainedModel model,
        string? id,
        CancellationToken cancellation
    )
    {
        if (
            model?.Model is not { } path
            || !path.StartsWith(StoredDrop.Retrained + "/", StringComparison.Ordinal)
            || StorePath.WhyUnsafe(path) is not null
        )
            throw new BadInputException(
                $"'model' must be a blob in the container '{StoredDrop.Retrained}'; upload the retrained model there "
                    + $"and name it as {StoredDrop.Retrained}/NAME.onnx."
            );
        if (await store.FindAsync(path, cancellation) is null)
            throw new BadInputException($"{path}: there is no such blob; upload the retrained model first.");
        if (model.Run is { Length: > 0 } run)
            return new IntakeDecision(null, RaisedEvent.Of(run, CompressionRun.RetrainedEvent, model, id));
        var predecessor = model.Predecessor is { Length: > 0 } p ? RunPaths.Output(p) : null;
        if (predecessor is not null && StorePath.WhyUnsafe(predecessor) is not null)
            throw new BadInputException("'predecessor' is not the id of a run.");
        var request =
            await DropRequest.OfAsync(store, path, predecessor, cancellation) ?? throw await NoDropAsync(store, path, cancellation);
        return new IntakeDecision(request, null);
    }
}
