using Serverless.Core;
using Serverless.Core.Events;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Options of a local run.</summary>
/// <param name="Output">Directory for the result, or null for <c>compressed/NAME/RUN</c>.</param>
/// <param name="Root">Directory that default places are under.</param>
/// <param name="Work">Directory for intermediate files that is kept, or null for one that is deleted after success.</param>
/// <param name="Memory">Memory budget in bytes, or null for half of what is free.</param>
/// <param name="Isolated">Evaluate in a process of its own.</param>
internal sealed record LocalOptions(string? Output, string Root, string? Work, long? Memory, bool Isolated = true)
{
    /// <summary>Replaces an output folder that holds something else, which is kept under another name.</summary>
    public bool Force { get; init; }

    /// <summary>Compares the result with the original.</summary>
    public bool Evaluates { get; init; } = true;

    /// <summary>Memory that runs beside each other share, or null for a run by itself.</summary>
    public MemoryGate? Gate { get; init; }
}

/// <summary>Runs one drop to its result on this machine.</summary>
internal static class RunDrop
{
    // Of larger drops memory counts for more than the third of a second that an early process saves.
    private const long LargestBegun = 256L << 20;

    /// <summary>Runs a drop; a run of the same drop elsewhere is waited for.</summary>
    public static async Task<LocalResult> RunAsync(
        Drop drop,
        LocalOptions options,
        Action<RunStatus> show,
        Action<string> say,
        CancellationToken cancellation
    )
    {
        options = RunFolders.Check(drop, options, say);
        var source = drop.Source.Open();
        var parts = await drop.PartsAsync(source, cancellation);
        var runId = RunPaths.Id(drop.Name, parts);
        if (options.Output is { } folderOut)
            RunFolders.RefuseSources(folderOut, drop, parts);
        var place = Place.Of(drop, options, runId);
        var store = place.Spec.Open();
        var request = new RunRequest(drop.Name, drop.Model, drop.Recipe, drop.Data, $"work/{runId}", place.Shards, place.Output)
        {
            Snapshot = RunPaths.Snapshot($"work/{runId}"),
            Evaluates = options.Evaluates,
        };

        using var held = await RunLock.TakeAsync(Path.Combine(place.Local, runId + ".lock"), say, cancellation);
        await using var lease = store is BlobStore blobs
            ? await blobs.LeaseAsync($"work/{runId}.lock", () => say("Another machine runs this drop; waiting for it."), cancellation)
            : null;
        var waited = held.Waited || lease is { Waited: true };
        if (waited && await ResultOfAsync(store, request, runId, cancellation) is { } done)
            return done with { Run = place.Shown(done.Run) };
        var folder = Path.Combine(place.Local, runId);
        WorkFolder.Mend(folder);
        var aside = drop.Source.Storage is null ? PublishedFolder.AsideName(place.Folder) : null;
        RunResult result;
        try
        {
            using var journal = new Journal(Path.Combine(folder, WorkFolder.Journal));
            if (journal.Count > 0)
                say($"Going on from {journal.Count} finished steps of an earlier run.");
            await RunPaths.WriteSnapshotAsync(store, request.Work, parts, cancellation);
            using var events = EventSender.FromEnvironment();
            var room = options.Gate ?? MemorySize.Room(options.Memory);
            using var process = options.Isolated ? new ModelProcess(place.Spec, room) : null;
            if (options.Evaluates && parts.Sum(p => p.Length) <= LargestBegun)
                process?.Begin();
            var context = new ActivityContext(store, room)
            {
                Events = events,
                GpuSteps = drop.Source.Storage is { } account ? StepQueue.Connect(account, GpuWorker.Steps) : null,
                PeakMemory = process is null ? null : () => process.PeakBytes,
            };
            using var orchestration = new LocalOrchestration(
                runId,
                context,
                journal,
                new LocalDisplay(show, say),
                process,
                Environment.ProcessorCount,
                cancellation
            );
            result = await new CompressionRun().RunAsync(orchestration, request);
        }
        catch (BadInputException e) when (e is not ModelLimitException)
        {
            // Nothing to go on from: better input is another run. More memory or time is the same run.
            await ClearAsync(store, request.Work, folder, CancellationToken.None);
            throw;
        }
        var report = await store.ReadJsonAsync<Report>($"{request.Output}/report.json", cancellation);
        await ClearAsync(store, request.Work, folder, cancellation);
        // With --force that was said before.
        if (aside is not null && !options.Force && Directory.Exists(aside))
            say($"{place.Folder} came to hold what no run published there, which is kept as {aside}.");
        return new LocalResult(place.Shown(result), report);
    }

    /// <summary>Where a run works and puts its result.</summary>
    /// <param name="Spec">The store.</param>
    /// <param name="Shards">Store folder of compressed layers.</param>
    /// <param name="Output">Store folder of the result.</param>
    /// <param name="Local">Directory on this machine for the journal and the lock.</param>
    private sealed record Place(StoreSpec Spec, string Shards, string Output, string Local)
    {
        public static Place Of(Drop drop, LocalOptions options, string runId)
        {
            if (drop.Source.Storage is not null)
                return new Place(
                    drop.Source,
                    StorePath.Shards,
                    RunPaths.Output(runId),
                    Path.GetFullPath(options.Work ?? Path.Combine(options.Root, RunLock.WorkFolder))
                );
            var output = Path.GetFullPath(options.Output ?? Path.Combine(options.Root, "compressed", RunPaths.Name(runId), runId));
            var work = Path.GetFullPath(options.Work ?? Path.Combine(Path.GetDirectoryName(output)!, RunLock.WorkFolder));
            return new Place(
                drop.Source.With(("work", work), ("out", Path.GetDirectoryName(output)!)),
                options.Work is null ? $"work/{runId}/layers" : StorePath.Shards,
                $"out/{Path.GetFileName(output)}",
                work
            );
        }

        /// <summary>The folder of the result, where the store is one of folders.</summary>
        public string Folder => Spec.Open() is ChecksummedStore { Inner: FolderStore folders } ? folders.FullPath(Output) : Output;

        public RunResult Shown(RunResult result) => result with { Output = Folder };
    }

    private static async Task ClearAsync(IArtifactStore store, string work, string folder, CancellationToken cancellation)
    {
        if (store is BlobStore)
            await new ClearWork().RunAsync(new ClearInput(work), new ActivityContext(store, new MemoryGate(0)), cancellation);
        Directory.Delete(folder, recursive: true);
    }

    private static async Task<LocalResult?> ResultOfAsync(
        IArtifactStore store,
        RunRequest request,
        string runId,
        CancellationToken cancellation
    )
    {
        var path = $"{request.Output}/report.json";
        if (await store.FindAsync(path, cancellation) is null)
            return null;
        var report = await store.ReadJsonAsync<Report>(path, cancellation);
        if (report.RunId != runId)
            return null;
        var loss = report.Budget is { } budget ? budget.Loss : 0;
        var run = new RunResult(report.Status, request.Output, report.Size.Before, report.Size.After, report.Fidelity.Cosine, loss);
        return new LocalResult(run, report);
    }
}
