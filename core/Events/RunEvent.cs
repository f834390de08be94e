using System.Text.Json;
using Azure.Messaging;

namespace Serverless.Core.Events;

/// <summary>Something that happened to a run, told to whoever listens as a CloudEvent (CloudEvents 1.0, JSON format).</summary>
/// <param name="Type">One of the constants here.</param>
/// <param name="RunId">The run.</param>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Time">When.</param>
public sealed record RunEvent(string Type, string RunId, string Name, string Model, DateTime Time)
{
    /// <summary>A run began.</summary>
    public const string Started = "serverless.run.started";

    /// <summary>A run has its result.</summary>
    public const string Succeeded = "serverless.run.succeeded";

    /// <summary>A run failed.</summary>
    public const string Failed = "serverless.run.failed";

    /// <summary>
    /// The loss budget could not be met by compressing alone; retrain from what <see cref="Student"/> and <see cref="Masks"/> name.
    /// </summary>
    public const string RetrainingRequested = "serverless.run.retraining-requested";

    /// <summary>What others send us: a model was trained again.</summary>
    public const string Retrained = "serverless.model.retrained";

    /// <summary><c>succeeded</c>, <c>over-budget</c> or <c>failed</c>; null while it runs.</summary>
    public string? Status { get; init; }

    /// <summary>Why it failed.</summary>
    public string? Error { get; init; }

    /// <summary>Store folder of the result.</summary>
    public string? Output { get; init; }

    /// <summary>Bytes before.</summary>
    public long? BytesBefore { get; init; }

    /// <summary>Bytes after.</summary>
    public long? BytesAfter { get; init; }

    /// <summary>What the budget is about.</summary>
    public double? Loss { get; init; }

    /// <summary>The budget.</summary>
    public double? MaxLoss { get; init; }

    /// <summary>Store path of the best compressed model, to start retraining from.</summary>
    public string? Student { get; init; }

    /// <summary>Store folder of the pruning masks that retraining must keep; null when nothing was pruned.</summary>
    public string? Masks { get; init; }

    /// <summary>Hours that the run waits for the retrained weights; 0 when it does not.</summary>
    public double? WaitHours { get; init; }

    /// <summary>Counts requests for retraining in one run, from 1.</summary>
    public int? Round { get; init; }

    /// <summary>Unique for what happened and the same when told again, so that listeners can drop what they know.</summary>
    public string Id => Round is { } r ? $"{RunId}/{Type}/{r}" : $"{RunId}/{Type}";

    /// <summary>The event as others are told of it.</summary>
    public CloudEvent ToCloudEvent()
    {
        var data = JsonSerializer.SerializeToNode(this, Json.Options)!.AsObject();
        foreach (var known in new[] { "type", "id", "time" })
            data.Remove(known);
        foreach (var empty in data.Where(p => p.Value is null).Select(p => p.Key).ToList())
            data.Remove(empty);
        return new CloudEvent($"/serverless/runs/{Uri.EscapeDataString(RunId)}", Type, data)
        {
            Id = Id,
            Subject = Model,
            Time = new DateTimeOffset(Time, TimeSpan.Zero),
            DataContentType = "application/json",
        };
    }
}
