using System.Text.Json;
using Azure.Messaging;
using Azure.Messaging.EventGrid;
using Azure.Messaging.EventGrid.SystemEvents;

namespace Serverless.Core.Events;

/// <summary>What an event from outside means to us.</summary>
/// <param name="Dropped">Store path of a blob that was dropped, or null.</param>
/// <param name="Retrained">Store path of a model that was trained again, or null.</param>
/// <param name="Run">The run that waits for it, or null.</param>
/// <param name="Predecessor">The run whose recipe to take, or null.</param>
/// <param name="Id">The event's id, the same when it is delivered again; null when it has none.</param>
public sealed record IncomingEvent(
    string? Dropped,
    string? Retrained = null,
    string? Run = null,
    string? Predecessor = null,
    string? Id = null
)
{
    /// <summary>Largest event read, in characters.</summary>
    public const int Largest = 64 << 10;

    private const string BlobSubject = "/blobServices/default/containers/";

    /// <summary>
    /// Reads an event in the CloudEvents 1.0 JSON format or the Event Grid schema: a blob that was created, a model
    /// registered in Azure Machine Learning whose properties or tags <c>serverless-model</c>, <c>serverless-run</c> and
    /// <c>serverless-predecessor</c> say where its ONNX file is, or our own <see cref="RunEvent.Retrained"/>.
    /// </summary>
    /// <returns>Null for an event that is no affair of ours.</returns>
    /// <exception cref="BadInputException">It is no event, or says nothing usable.</exception>
    public static IncomingEvent? Read(string json)
    {
        if (json.Length > Largest)
            throw new BadInputException($"the event is longer than {Largest} characters.");
        try
        {
            // Unvalidated, an event of the Event Grid schema is a CloudEvent whose type is an extension attribute.
            if (CloudEvent.ParseMany(BinaryData.FromString(json), skipValidation: true) is not [var told])
                throw new BadInputException("the event is not a JSON object.");
            var read = (told.Type ?? (told.ExtensionAttributes.TryGetValue("eventType", out var type) ? type : null)) switch
            {
                SystemEventNames.StorageBlobCreated => OfBlob(told.Subject),
                SystemEventNames.MachineLearningServicesModelRegistered => Registered(
                    told.Data?.ToObjectFromJson<MachineLearningServicesModelRegisteredEventData>()
                ),
                RunEvent.Retrained => OfRetrained(told.Data?.ToObjectFromJson<RetrainedData>(Json.Options)),
                _ => null,
            };
            return read is null ? null : read with { Id = told.Id };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException or FormatException)
        {
            // A text with half a surrogate pair is an InvalidOperationException.
            throw new BadInputException($"the event cannot be read: {e.Message.Split('\n')[0]}", e);
        }
    }

    private static IncomingEvent? OfBlob(string? subject)
    {
        if (subject is null || !subject.StartsWith(BlobSubject, StringComparison.Ordinal))
            throw new BadInputException($"the event {SystemEventNames.StorageBlobCreated} has no subject that names a blob.");
        return subject[BlobSubject.Length..].Split("/blobs/", 2) is [var container, { Length: > 0 } blob]
            ? new IncomingEvent($"{container}/{blob}")
            : null;
    }

    private static IncomingEvent? Registered(MachineLearningServicesModelRegisteredEventData? data)
    {
        return Value("serverless-model") is { } model
            ? new IncomingEvent(null, model, Value("serverless-run"), Value("serverless-predecessor"))
            : null;

        string? Value(string key) => Of(data?.ModelProperties, key) ?? Of(data?.ModelTags, key);

        static string? Of(object? map, string key) => (map as IReadOnlyDictionary<string, object>)?.GetValueOrDefault(key) as string;
    }

    private static IncomingEvent OfRetrained(RetrainedData? data) =>
        data?.Model is { } model
            ? new IncomingEvent(null, model, data.Run, data.Predecessor)
            : throw new BadInputException($"the event {RunEvent.Retrained} has no 'model' in its data.");

    private sealed record RetrainedData(string? Model, string? Run, string? Predecessor);
}
