using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Something that may be a drop: its key, what its files look like now, and how to open it.</summary>
internal sealed record DropCandidate(string Key, string State, Func<Drop> Open);

/// <summary>A place where drops appear: a folder, or a container of blob storage.</summary>
internal interface IDropSource
{
    string Name { get; }

    /// <summary>The store that results and failures are in, as <c>compressed/NAME/RUN</c> and <c>failed/NAME/RUN</c>.</summary>
    IArtifactStore Results { get; }

    LocalOptions Options(Drop drop, string runId, long? memory);

    Task PrepareAsync(CancellationToken cancellation);

    Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation);
}

/// <summary>
/// Watches for drops. One begins when its files have stopped changing and the model is whole; one that stays broken is
/// written down as failed; one that is done is not done again. Several are done beside each other, so that a slow one
/// keeps nobody waiting; they share one memory budget. Nothing that happens to a drop ends the watch.
/// </summary>
/// <param name="source">Where drops appear.</param>
/// <param name="memory">Memory budget in bytes, or null for half of what is free, at least 1 GB.</param>
/// <param name="parallel">Drops at a time, or null for the number of cores, at most 4.</param>
internal sealed class DropWatch(IDropSource source, long? memory, int? parallel = null) : IDisposable
{
    private const int MostParallel = 4;
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);
    private readonly bool alone = (parallel ?? DefaultParallel) == 1;
    private readonly MemoryGate gate = MemorySize.Room(memory);
    private readonly Dictionary<string, (string State, DateTime Since)> seen = new(StringComparer.Ordinal);
    private readonly HashSet<string> finished = new(StringComparer.Ordinal);

    // Looking at a drop takes no place of those at work: many broken ones keep nobody waiting.
    private readonly SemaphoreSlim looks = new(MostParallel),
        places = new(parallel ?? DefaultParallel);
    private readonly Dictionary<string, Task> running = new(StringComparer.Ordinal);
    private readonly Lock results = new();
    private string? trouble;

    private static int DefaultParallel => Math.Clamp(Environment.ProcessorCount, 1, MostParallel);

    /// <summary>How long a drop that cannot be read may stay as it is before it counts as broken.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Says a line for each layer.</summary>
    public bool Verbose { get; init; }

    /// <summary>Watches until cancelled; with <paramref name="once"/>, until everything there is done.</summary>
    public async Task RunAsync(bool once, CancellationToken cancellation)
    {
        await source.PrepareAsync(cancellation);
        Console.Error.WriteLine($"Watching {Printable.Line(source.Name)}; Ctrl-C stops.");
        try
        {
            for (var first = true; ; first = false)
            {
                foreach (var key in running.Where(r => r.Value.IsCompleted).Select(r => r.Key).ToList())
                    running.Remove(key);
                var waiting = false;
                foreach (var candidate in await ListAsync(first || once, cancellation))
                    waiting |= Look(candidate, cancellation);
                if (once && !waiting && running.Count == 0)
                    return;
                await Task.Delay(Poll, cancellation);
            }
        }
        finally
        {
            // They hear of the cancellation too; none of them throws.
            await Task.WhenAll(running.Values);
        }
    }

    /// <summary>Pauses before a drop is gone on with whose failure may pass.</summary>
    internal DropPauses Pauses { get; init; } = new();

    public void Dispose()
    {
        looks.Dispose();
        places.Dispose();
    }

    // A place that cannot be listed for a while is listed again later; one that never could be is told of.
    private async Task<IReadOnlyList<DropCandidate>> ListAsync(bool strict, CancellationToken cancellation)
    {
        try
        {
            var found = await source.ListAsync(cancellation);
            trouble = null;
            return found;
        }
        catch (Exception e) when (!strict && !cancellation.IsCancellationRequested)
        {
            if (trouble != e.Message)
                Console.Error.WriteLine($"{Printable.Line(source.Name)}: {Printable.Line(e.Message).TrimEnd('.')}; looking again.");
            trouble = e.Message;
            return [];
        }
    }

    // True when there is something to wait for.
    private bool Look(DropCandidate candidate, CancellationToken cancellation)
    {
        var (key, state) = (candidate.Key, candidate.State);
        lock (results)
            if (finished.Contains($"{key}|{state}"))
                return false;
        if (running.ContainsKey(key) || Pauses.Lasts($"{key}|{state}"))
            return true;
        if (!seen.TryGetValue(key, out var last) || last.State != state)
        {
            seen[key] = (state, DateTime.UtcNow);
            return true;
        }
        var over = DateTime.UtcNow - last.Since > Patience;
        running[key] = Task.Run(() => TakeAsync(candidate, over, cancellation), CancellationToken.None);
        return true;
    }

    private async Task TakeAsync(DropCandidate candidate, bool patienceOver, CancellationToken cancellation)
    {
        try
        {
            if (!await IsDoneAsync(candidate, patienceOver, cancellation))
                return;
            lock (results)
                finished.Add($"{candidate.Key}|{candidate.State}");
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // The watch ends; the next one goes on from here.
        }
        catch (Exception e)
        {
            // It could not even be written down, as on a full disk: told of, and looked at again once it changes.
            lock (results)
            {
                finished.Add($"{candidate.Key}|{candidate.State}");
                Console.Error.WriteLine(
                    $"{Printable.Line(Path.GetFileName(candidate.Key))}: "
                        + $"{Printable.Line(e.Message).TrimEnd('.')}; drop it again once that is mended."
                );
            }
        }
    }

    // True when the drop is done with, one way or the other; false when it should be looked at again.
    private async Task<bool> IsDoneAsync(DropCandidate candidate, bool patienceOver, CancellationToken cancellation)
    {
        try
        {
            var (_, runId) = await InPlaceOfAsync(looks, () => OpenAsync(candidate, cancellation), cancellation);
            foreach (var done in new[] { $"{RunPaths.Output(runId)}/report.json", RunPaths.Failure(runId) })
                if (await source.Results.FindAsync(done, cancellation) is not null)
                    return true;
        }
        catch (Exception e) when (!cancellation.IsCancellationRequested)
        {
            if (!patienceOver)
                return false;
            var name = Path.GetFileName(candidate.Key);
            if (name.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase))
                name = Path.GetFileNameWithoutExtension(name);
            await FailAsync(RunPaths.Id(name, [new Artifact(candidate.Key, 0, candidate.State)]), candidate.Key, e.Message, cancellation);
            return true;
        }
        return await InPlaceOfAsync(places, () => RunAsync(candidate, cancellation), cancellation);
    }

    private async Task<bool> RunAsync(DropCandidate candidate, CancellationToken cancellation)
    {
        Drop drop;
        string runId;
        try
        {
            // It may have changed while it waited for a place.
            (drop, runId) = await OpenAsync(candidate, cancellation);
        }
        catch (Exception) when (!cancellation.IsCancellationRequested)
        {
            return false;
        }
        try
        {
            var options = source.Options(drop, runId, memory) with { Gate = gate };
            var result = await RunDisplay.RunAsync(
                display => RunDrop.RunAsync(drop, options, display.Show, display.Say, cancellation),
                Verbose,
                alone ? null : drop.Name
            );
            lock (results)
            {
                ResultTable.PrintShort(drop, result);
                StandardStreams.TellIfLost($"the result is in {result.Run.Output}");
            }
        }
        catch (Exception e)
            when (!cancellation.IsCancellationRequested && MayGoOn(e) && Pauses.Next($"{candidate.Key}|{candidate.State}") is { } pause)
        {
            lock (results)
                Console.Error.WriteLine(
                    $"{Printable.Line(drop.Name)}: {Printable.Line(e.Message).TrimEnd('.')}; going on in {pause.TotalSeconds:0} s."
                );
            return false;
        }
        catch (Exception e) when (!cancellation.IsCancellationRequested)
        {
            // One bad drop must not end the watch: it is written down and the next one taken.
            await FailAsync(runId, candidate.Key, e.Message, cancellation);
        }
        return true;
    }

    // Nothing is wrong with the drop: storage or disk failed, or the process that runs the model was killed.
    private static bool MayGoOn(Exception e) => e is ModelKilledException or DamagedWorkException || Retries.MayPass(e);

    private static async Task<(Drop Drop, string RunId)> OpenAsync(DropCandidate candidate, CancellationToken cancellation)
    {
        var drop = candidate.Open();
        return (drop, RunPaths.Id(drop.Name, await drop.PartsAsync(drop.Source.Open(), cancellation)));
    }

    private static async Task<T> InPlaceOfAsync<T>(SemaphoreSlim places, Func<Task<T>> work, CancellationToken cancellation)
    {
        await places.WaitAsync(cancellation);
        try
        {
            return await work();
        }
        finally
        {
            places.Release();
        }
    }

    private async Task FailAsync(string runId, string model, string error, CancellationToken cancellation)
    {
        lock (results)
            Console.Error.WriteLine($"{Printable.Line(Path.GetFileName(model))}: {Printable.Line(error)}");
        await new WriteFailure().RunAsync(
            new FailureInput(runId, model, error),
            new ActivityContext(source.Results, new MemoryGate(0)),
            cancellation
        );
    }
}
