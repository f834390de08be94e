using DurableTask.Core.Exceptions;
using Microsoft.DurableTask;
using Microsoft.DurableTask.Client;
using Serverless.Core.Pipeline;

namespace Serverless.App;

/// <summary>Runs as Durable knows them.</summary>
internal static class Runs
{
    /// <summary>Carries out what an event asked for.</summary>
    /// <returns>The run it concerns, or null when there is nothing to do.</returns>
    public static async Task<string?> CarryOutAsync(DurableTaskClient client, IntakeDecision decision, CancellationToken cancellation)
    {
        if (decision.Raise is { } raise)
        {
            await client.RaiseEventAsync(raise.RunId, raise.Name, raise.Payload, cancellation);
            return raise.RunId;
        }
        if (decision.Start is not { } start) return null;
        await StartAsync(client, start, cancellation);
        return start.RunId;
    }

    /// <summary>What is known of a run, its parts' progress counted in; null when there is no such run.</summary>
    public static async Task<RunView?> FindAsync(DurableTaskClient client, string id, CancellationToken cancellation)
    {
        if (await client.GetInstanceAsync(id, getInputsAndOutputs: true, cancellation) is not { } run) return null;
        var status = run.SerializedCustomStatus is null ? null : run.ReadCustomStatusAs<RunStatus>();
        if (status is { Stage: "Compress", LayersTotal: > CompressLayers.Widest }) status = status.With(await PartsAsync(client, id, status, cancellation));
        var result = run.RuntimeStatus == OrchestrationRuntimeStatus.Completed ? run.ReadOutputAs<DropResult>() : null;
        return new RunView(id, run.RuntimeStatus.ToString(), run.CreatedAt, run.LastUpdatedAt, status, result, run.FailureDetails?.ErrorMessage);
    }

    // An id that is known, in whatever state, is a drop that is or was taken care of: an event delivered again starts nothing.
    private static async Task StartAsync(DurableTaskClient client, DropRequest request, CancellationToken cancellation)
    {
        if (await client.GetInstanceAsync(request.RunId, cancellation) is not null) return;
        try
        {
            var options = new StartOrchestrationOptions(request.RunId).WithDedupeStatuses([.. StartOrchestrationOptionsExtensions.ValidDedupeStatuses]);
            await client.ScheduleNewOrchestrationInstanceAsync(nameof(DropRun), request, options, cancellation);
        }
        catch (OrchestrationAlreadyExistsException)
        {
            // Another delivery of the event was faster.
        }
    }

    private static async Task<IReadOnlyList<RunStatus>> PartsAsync(DurableTaskClient client, string id, RunStatus status, CancellationToken cancellation)
    {
        var parts = new List<RunStatus>();
        for (var from = 0; from < status.LayersTotal; from += CompressLayers.Widest)
            if (await client.GetInstanceAsync(CompressLayers.Part($"work/{id}", status.Attempt - 1, from), getInputsAndOutputs: true, cancellation) is { SerializedCustomStatus: not null } part)
                parts.Add(part.ReadCustomStatusAs<RunStatus>()!);
        return parts;
    }
}

/// <summary>A run as the HTTP interface shows it.</summary>
/// <param name="Id">The run.</param>
/// <param name="State">Durable's word for its state.</param>
/// <param name="Created">When it was asked for.</param>
/// <param name="Updated">When it last went on.</param>
/// <param name="Progress">How far it is.</param>
/// <param name="Result">What came out.</param>
/// <param name="Error">Why it failed.</param>
public sealed record RunView(string Id, string State, DateTimeOffset Created, DateTimeOffset Updated, RunStatus? Progress, DropResult? Result, string? Error);
