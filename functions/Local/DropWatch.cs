using Serverless.Core;
using Serverless.Core.Pipeline;
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
/// written down as failed; one that is done is not done again.
/// </summary>
internal sealed class DropWatch(IDropSource source, long? memory)
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly Dictionary<string, (string State, DateTime Since)> seen = new(StringComparer.Ordinal);
    private readonly HashSet<string> finished = new(StringComparer.Ordinal);

    /// <summary>Watches until cancelled; with <paramref name="once"/>, until everything there is done.</summary>
    public async Task RunAsync(bool once, CancellationToken cancellation)
    {
        await source.PrepareAsync(cancellation);
        Console.Error.WriteLine($"Watching {source.Name}; Ctrl-C stops.");
        while (true)
        {
            var waiting = false;
            foreach (var candidate in await source.ListAsync(cancellation))
            {
                var (key, state) = (candidate.Key, candidate.State);
                if (finished.Contains($"{key}|{state}")) continue;
                if (!seen.TryGetValue(key, out var last) || last.State != state)
                {
                    seen[key] = (state, DateTime.UtcNow);
                    waiting = true;
                    continue;
                }
                if (await TakeAsync(candidate, DateTime.UtcNow - last.Since > Patience, cancellation)) finished.Add($"{key}|{state}");
                else waiting = true;
            }
            if (once && !waiting) return;
            await Task.Delay(Poll, cancellation);
        }
    }

    // True when the drop is done with, one way or the other; false when it should be looked at again.
    private async Task<bool> TakeAsync(DropCandidate candidate, bool patienceOver, CancellationToken cancellation)
    {
        Drop drop;
        string runId;
        try
        {
            drop = candidate.Open();
            var store = drop.Source.Open();
            runId = RunNames.Id(drop.Name, await drop.PartsAsync(store, cancellation));
        }
        catch (Exception e) when (e is BadInputException or IOException or UnauthorizedAccessException)
        {
            if (!patienceOver) return false;
            var name = Path.GetFileNameWithoutExtension(candidate.Key);
            await FailAsync(RunNames.Id(name, [new Artifact(candidate.Key, 0, candidate.State)]), candidate.Key, e.Message, cancellation);
            return true;
        }
        foreach (var done in new[] { $"{RunNames.Output(runId)}/report.json", RunNames.Failure(runId) })
            if (await source.Results.FindAsync(done, cancellation) is not null) return true;
        try
        {
            var result = await RunDisplay.RunAsync(display => RunDrop.RunAsync(drop, source.Options(drop, runId, memory), display.Show, display.Say, cancellation));
            CompressCommand.Print(drop.Name, result);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // One bad drop must not end the watch: it is written down and the next one taken.
            await FailAsync(runId, candidate.Key, e.Message, cancellation);
        }
        return true;
    }

    private async Task FailAsync(string runId, string model, string error, CancellationToken cancellation)
    {
        Console.Error.WriteLine(error);
        await new WriteFailure().RunAsync(new FailureInput(runId, model, error), new ActivityContext(source.Results, new MemoryGate(0)), cancellation);
    }
}
