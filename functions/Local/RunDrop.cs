using Serverless.Core;
using Serverless.Core.Onnx;
using Serverless.Core.Pipeline;
using Serverless.Core.Reports;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Options of a local run.</summary>
/// <param name="Output">Directory for the result, or null for <c>compressed/NAME/RUN</c> under <paramref name="Root"/>.</param>
/// <param name="Root">Directory that default places are under.</param>
/// <param name="Work">Directory for intermediate files that is kept, or null for one that is deleted after success.</param>
/// <param name="Memory">Memory budget in bytes, or null for half of what is free.</param>
/// <param name="Isolated">Evaluate in a process of its own.</param>
internal sealed record LocalOptions(string? Output, string Root, string? Work, long? Memory, bool Isolated = true);

/// <summary>Runs one drop to its result on this machine.</summary>
internal static class RunDrop
{
    private const long SmallestEvaluationLimit = 1L << 30;
    private static readonly TimeSpan EvaluationTime = TimeSpan.FromMinutes(30);

    /// <summary>Runs a drop; a run of the same drop elsewhere is waited for.</summary>
    public static async Task<RunResult> RunAsync(Drop drop, LocalOptions options, Action<RunStatus> show, Action<string> say, CancellationToken cancellation)
    {
        var found = new FolderStore(drop.Containers);
        var index = await ModelIndexer.IndexAsync(found, drop.Model, cancellation);
        var runId = await drop.RunIdAsync(found, index.Files.Values.Select(f => f.Path), cancellation);
        var output = Path.GetFullPath(options.Output ?? Path.Combine(options.Root, "compressed", drop.Name, runId));
        var work = Path.GetFullPath(options.Work ?? Path.Combine(Path.GetDirectoryName(output)!, ".serverless-work"));
        Directory.CreateDirectory(work);
        var containers = new Dictionary<string, string>(drop.Containers) { ["work"] = work, ["out"] = Path.GetDirectoryName(output)! };
        var store = new FolderStore(containers);
        var run = $"work/{runId}";
        var request = new RunRequest(drop.Name, drop.Model, drop.Recipe, drop.Data, run, options.Work is null ? $"{run}/layers" : "work/layers", $"out/{Path.GetFileName(output)}", options.Memory ?? 0);

        using var held = await TakeAsync(Path.Combine(work, runId + ".lock"), say, cancellation);
        if (held.Waited && await ResultOfAsync(store, request, runId, cancellation) is { } done) return done;
        RunResult result;
        try
        {
            using var journal = new Journal(Path.Combine(work, runId, "journal.jsonl"));
            if (journal.Count > 0) say($"Going on from {journal.Count} finished steps of an earlier run.");
            var context = new ActivityContext(store, new MemoryGate(options.Memory ?? MemorySize.HalfOfFree()));
            var process = options.Isolated ? new ModelProcess(containers, Math.Max(options.Memory ?? 0, SmallestEvaluationLimit), EvaluationTime) : null;
            using var orchestration = new LocalOrchestration(runId, context, journal, show, process, Environment.ProcessorCount, cancellation);
            result = await CompressionRun.RunAsync(orchestration, request);
        }
        catch (BadInputException)
        {
            // Nothing to go on from: better input is another run.
            Directory.Delete(Path.Combine(work, runId), recursive: true);
            throw;
        }
        Directory.Delete(Path.Combine(work, runId), recursive: true);
        return result with { Output = output };
    }

    /// <summary>Removes the lock and the work folder when nothing else uses it.</summary>
    private sealed class Held(FileStream file, bool waited) : IDisposable
    {
        public bool Waited => waited;

        public void Dispose()
        {
            File.Delete(file.Name);
            file.Dispose();
            var folder = Path.GetDirectoryName(file.Name)!;
            if (Path.GetFileName(folder) == ".serverless-work" && Directory.Exists(folder) && !Directory.EnumerateFileSystemEntries(folder).Any())
                Directory.Delete(folder);
        }
    }

    private static async Task<Held> TakeAsync(string path, Action<string> say, CancellationToken cancellation)
    {
        for (var waited = false; ; waited = true)
        {
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                var held = new Held(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None), waited);
                // The holder before may have removed the file between our opening and locking it.
                if (File.Exists(path)) return held;
            }
            catch (IOException) when (!cancellation.IsCancellationRequested)
            {
                if (!waited) say("Another run of this drop is under way; waiting for it.");
                await Task.Delay(200, cancellation);
            }
        }
    }

    private static async Task<RunResult?> ResultOfAsync(FolderStore store, RunRequest request, string runId, CancellationToken cancellation)
    {
        var path = $"{request.Output}/report.json";
        if (await store.FindAsync(path, cancellation) is null) return null;
        var report = await store.ReadJsonAsync<Report>(path, cancellation);
        return report.RunId != runId ? null : new RunResult(report.Status, store.FullPath(request.Output), report.Size.Before, report.Size.After, report.Fidelity.Cosine, report.Budget?.Loss ?? 0);
    }
}
