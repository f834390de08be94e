using System.Text.Json;

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

    private const string BlobCreated = "Microsoft.Storage.BlobCreated";
    private const string ModelRegistered = "Microsoft.MachineLearningServices.ModelRegistered";
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
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 32 });
            var root = document.RootElement;
            if (root.ValueKind == JsonValueKind.Array && root.GetArrayLength() == 1)
                root = root[0];
            if (root.ValueKind != JsonValueKind.Object)
                throw new BadInputException("the event is not a JSON object.");
            var data = root.TryGetProperty("data", out var d) && d.ValueKind == JsonValueKind.Object ? d : default;
            var read = (Text(root, "type") ?? Text(root, "eventType")) switch
            {
                BlobCreated => OfBlob(Text(root, "subject")),
                ModelRegistered => Registered(data),
                RunEvent.Retrained => new IncomingEvent(
                    null,
                    Text(data, "model") ?? throw new BadInputException($"the event {RunEvent.Retrained} has no 'model' in its data."),
                    Text(data, "run"),
                    Text(data, "predecessor")
                ),
                _ => null,
            };
            return read is null ? null : read with { Id = Text(root, "id") };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // A text with half a surrogate pair is an InvalidOperationException.
            throw new BadInputException($"the event is not JSON: {e.Message}", e);
        }
    }

    private static IncomingEvent? OfBlob(string? subject)
    {
        if (subject is null || !subject.StartsWith(BlobSubject, StringComparison.Ordinal))
            throw new BadInputException($"the event {BlobCreated} has no subject that names a blob.");
        return subject[BlobSubject.Length..].Split("/blobs/", 2) is [var container, { Length: > 0 } blob]
            ? new IncomingEvent($"{container}/{blob}")
            : null;
    }

    private static IncomingEvent? Registered(JsonElement data)
    {
        return Value("serverless-model") is { } model
            ? new IncomingEvent(null, model, Value("serverless-run"), Value("serverless-predecessor"))
            : null;

        string? Value(string key) => Of("modelProperties", key) ?? Of("modelTags", key);

        string? Of(string map, string key) =>
            data.ValueKind == JsonValueKind.Object && data.TryGetProperty(map, out var m) ? Text(m, key) : null;
    }

    private static string? Text(JsonElement from, string key) =>
        from.ValueKind == JsonValueKind.Object && from.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : null;
}
