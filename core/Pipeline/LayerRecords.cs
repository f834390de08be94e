using Serverless.Core.Storage;

namespace Serverless.Core.Pipeline;

/// <summary>The tasks of an attempt and their results, one small object each; several are on their way at a time.</summary>
internal static class LayerRecords
{
    private const int Parallelism = 16;

    /// <summary>Writes the tasks.</summary>
    public static Task WriteTasksAsync(IArtifactStore store, string work, int attempt, IReadOnlyList<LayerTask> tasks, CancellationToken cancellation) =>
        Parallel.ForEachAsync(tasks, Options(cancellation), async (t, token) => await store.WriteJsonAsync(RunNames.Task(work, attempt, t.Index), t, token));

    /// <summary>The tasks in their order.</summary>
    public static Task<IReadOnlyList<LayerTask>> TasksAsync(IArtifactStore store, string work, int attempt, CancellationToken cancellation) =>
        ReadAsync<LayerTask>(store, work, attempt, ".task.json", cancellation);

    /// <summary>The results of those tasks that compress, in their order.</summary>
    public static Task<IReadOnlyList<LayerResult>> ResultsAsync(IArtifactStore store, string work, int attempt, CancellationToken cancellation) =>
        ReadAsync<LayerResult>(store, work, attempt, ".result.json", cancellation);

    /// <summary>The tasks and the results of those that compress, all of them.</summary>
    /// <param name="store">The store.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="count">Tasks that there must be, or null for those without a gap.</param>
    /// <param name="cancellation">Cancels the reads.</param>
    /// <exception cref="DamagedWorkException">A task or result is gone.</exception>
    public static async Task<(IReadOnlyList<LayerTask> Tasks, IReadOnlyList<LayerResult> Results)> AllAsync(
        IArtifactStore store, string work, int attempt, int? count, CancellationToken cancellation)
    {
        var (tasks, results) = (await TasksAsync(store, work, attempt, cancellation), await ResultsAsync(store, work, attempt, cancellation));
        var folder = $"{RunNames.Attempt(work, attempt)}/layers";
        if (tasks.Count != (count ?? tasks.Count) || tasks.Where((t, i) => t.Index != i).Any())
            throw new DamagedWorkException($"{folder} has {tasks.Count} of {count ?? tasks[^1].Index + 1} tasks.");
        var made = results.Select(r => r.Figures.Index).ToHashSet();
        if (tasks.FirstOrDefault(t => t.Step is not null && !made.Contains(t.Index)) is { } missing)
            throw new DamagedWorkException($"{RunNames.Result(work, attempt, missing.Index)} is missing.");
        return (tasks, results);
    }

    private static async Task<IReadOnlyList<T>> ReadAsync<T>(IArtifactStore store, string work, int attempt, string ending, CancellationToken cancellation)
    {
        var paths = new List<string>();
        await foreach (var a in store.ListAsync($"{RunNames.Attempt(work, attempt)}/layers/", cancellation))
            if (a.Path.EndsWith(ending, StringComparison.Ordinal)) paths.Add(a.Path);
        var records = new T[paths.Count];
        await Parallel.ForAsync(0, paths.Count, Options(cancellation), async (i, token) => records[i] = await store.ReadJsonAsync<T>(paths[i], token));
        return records;
    }

    private static ParallelOptions Options(CancellationToken cancellation) => new() { MaxDegreeOfParallelism = Parallelism, CancellationToken = cancellation };
}
