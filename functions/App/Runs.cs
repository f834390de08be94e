using DurableTask.Core.Exceptions;
using Microsoft.DurableTask;
using Microsoft.DurableTask.Client;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

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
        if (decision.Start is not { } start)
            return null;
        await StartAsync(client, start, cancellation);
        return start.RunId;
    }

    /// <summary>What is known of a run, its parts' progress counted in; null when there is no such run.</summary>
    public static async Task<RunView?> FindAsync(DurableTaskClient client, string id, CancellationToken cancellation)
    {
        if (await client.GetInstanceAsync(id, getInputsAndOutputs: true, cancellation) is not { } run)
            return null;
        var status = run.SerializedCustomStatus is null ? null : run.ReadCustomStatusAs<RunStatus>();
        if (status is { Stage: RunStatus.Compress, Parts: { } prefix })
        {
            var parts = await PartsAsync(client, prefix, run.CreatedAt, status.LayersTotal, cancellation);
            status = status.With([
                .. from part in parts
                where part.SerializedCustomStatus is not null
                orderby part.LastUpdatedAt
                select part.ReadCustomStatusAs<RunStatus>(),
            ]);
        }
        var result = run.RuntimeStatus == OrchestrationRuntimeStatus.Completed ? run.ReadOutputAs<DropResult>() : null;
        return new RunView(id, run.RuntimeStatus.ToString(), run.CreatedAt, run.LastUpdatedAt, status, result, RunFailure.Of(run));
    }

    /// <summary>Starts a run that somebody asks for; one that failed or was cancelled starts anew.</summary>
    /// <exception cref="RunEndingException">It was cancelled just now, and what it leaves is not cleared yet.</exception>
    public static async Task<string> StartAgainAsync(
        DurableTaskClient client,
        IArtifactStore store,
        DropRequest request,
        CancellationToken cancellation
    )
    {
        var id = request.RunId;
        var state = (await client.GetInstanceAsync(id, cancellation))?.RuntimeStatus;
        if (state is OrchestrationRuntimeStatus.Failed or OrchestrationRuntimeStatus.Terminated)
        {
            if (await store.FindAsync(RunPaths.Cancelled(id), cancellation) is not null)
                throw new RunEndingException($"{id}: the run was cancelled and is being cleared; ask again in a moment.");
            await store.DeleteAsync(RunPaths.Failure(id), cancellation);
            await client.PurgeInstanceAsync(id, new PurgeInstanceOptions(Recursive: true), cancellation);
        }
        await StartAsync(client, request, cancellation);
        return id;
    }

    /// <summary>Cancels a run: its orchestrations end now, its activities within seconds, then its work is cleared.</summary>
    public static async Task CancelAsync(DurableTaskClient client, IArtifactStore store, string id, CancellationToken cancellation)
    {
        if (await client.GetInstanceAsync(id, getInputsAndOutputs: true, cancellation) is not { IsCompleted: false } run)
            return;
        await store.WriteBytesAsync(RunPaths.Cancelled(id), ReadOnlyMemory<byte>.Empty, cancellation);
        var end = new TerminateInstanceOptions("cancelled", Recursive: true);
        await client.TerminateInstanceAsync(id, end, cancellation);
        // Not every backend ends the parts with it.
        if (run.SerializedCustomStatus is not null && run.ReadCustomStatusAs<RunStatus>() is { Parts: { } prefix } status)
            foreach (var part in await PartsAsync(client, prefix, run.CreatedAt, status.LayersTotal, cancellation))
                if (!part.IsCompleted)
                    await client.TerminateInstanceAsync(part.InstanceId, end, cancellation);
        var clearing = CancelRun.IdOf(id);
        await client.PurgeInstanceAsync(clearing, cancellation);
        var options = new StartOrchestrationOptions(clearing);
        await client.ScheduleNewOrchestrationInstanceAsync(nameof(CancelRun), new CancelInput(id), options, cancellation);
        // Its first look would wait behind the activities that are queued; those end as they begin.
        await ClearWork.ClearAsync(store, $"work/{id}", cancellation);
    }

    // An id that is known, in whatever state, is a drop that is or was taken care of: an event delivered again starts nothing.
    private static async Task StartAsync(DurableTaskClient client, DropRequest request, CancellationToken cancellation)
    {
        if (await client.GetInstanceAsync(request.RunId, cancellation) is not null)
            return;
        try
        {
            var options = new StartOrchestrationOptions(request.RunId).WithDedupeStatuses([
                .. StartOrchestrationOptionsExtensions.ValidDedupeStatuses,
            ]);
            await client.ScheduleNewOrchestrationInstanceAsync(nameof(DropRun), request, options, cancellation);
        }
        catch (OrchestrationAlreadyExistsException)
        {
            // Another delivery of the event was faster.
        }
    }

    // A run that was started again has the parts of before until each of its own begins.
    private static async Task<IReadOnlyList<OrchestrationMetadata>> PartsAsync(
        DurableTaskClient client,
        string prefix,
        DateTimeOffset since,
        int layers,
        CancellationToken cancellation
    )
    {
        var ids = Enumerable.Range(0, layers).Chunk(CompressLayers.Widest).Select(some => $"{prefix}{some[0]}");
        var parts = await Task.WhenAll(ids.Select(id => client.GetInstanceAsync(id, getInputsAndOutputs: true, cancellation)));
        return [.. parts.OfType<OrchestrationMetadata>().Where(p => p.CreatedAt >= since)];
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
public sealed record RunView(
    string Id,
    string State,
    DateTimeOffset Created,
    DateTimeOffset Updated,
    RunStatus? Progress,
    DropResult? Result,
    string? Error
);
