using System.Security.Cryptography;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Which tasks an attempt has.</summary>
/// <param name="Tasks">Hash of them all, in the names of the objects that hold them: such an object never changes.</param>
/// <param name="Count">How many.</param>
internal sealed record TaskList(string Tasks, int Count);

/// <summary>The tasks of an attempt and their results, many in an object: a call to the store costs more than a record.</summary>
internal static class LayerRecords
{
    /// <summary>Tasks in one object.</summary>
    public const int TasksTogether = 100;

    /// <summary>Results in one object.</summary>
    public const int ResultsTogether = 20;

    private const int Parallelism = 16;

    /// <summary>Writes the tasks.</summary>
    /// <returns>Their hash.</returns>
    public static async Task<string> WriteTasksAsync(
        IArtifactStore store,
        string work,
        int attempt,
        IReadOnlyList<LayerTask> tasks,
        CancellationToken cancellation
    )
    {
        var groups = tasks
            .Chunk(TasksTogether)
            .Select(g => (g[0].Index, Json: JsonSerializer.SerializeToUtf8Bytes(g, Json.Options)))
            .ToList();
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (_, json) in groups)
            sha.AppendData(json);
        var hash = Convert.ToHexStringLower(sha.GetHashAndReset().AsSpan(0, 8));
        await Parallel.ForEachAsync(
            groups,
            Options(cancellation),
            async (g, token) => await store.WriteBytesAsync(RunPaths.Tasks(work, attempt, hash, g.Index), g.Json, token)
        );
        await store.WriteJsonAsync(RunPaths.TaskList(work, attempt), new TaskList(hash, tasks.Count), cancellation);
        return hash;
    }

    /// <summary>The tasks in their order.</summary>
    /// <exception cref="DamagedWorkException">Some are gone.</exception>
    public static Task<IReadOnlyList<LayerTask>> TasksAsync(
        IArtifactStore store,
        string work,
        int attempt,
        CancellationToken cancellation
    ) => TasksAsync(store, work, attempt, 0, int.MaxValue, cancellation);

    /// <summary>Some of the tasks.</summary>
    /// <param name="store">The store.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="from">The first.</param>
    /// <param name="most">How many at most.</param>
    /// <param name="cancellation">Cancels the reads.</param>
    /// <exception cref="DamagedWorkException">Some are gone.</exception>
    public static async Task<IReadOnlyList<LayerTask>> TasksAsync(
        IArtifactStore store,
        string work,
        int attempt,
        int from,
        int most,
        CancellationToken cancellation
    )
    {
        var list = await store.ReadJsonAsync<TaskList>(RunPaths.TaskList(work, attempt), cancellation);
        var count = Math.Min(most, list.Count - from);
        var first = from / TasksTogether * TasksTogether;
        var paths = new List<string>();
        for (var i = first; i < from + count; i += TasksTogether)
            paths.Add(RunPaths.Tasks(work, attempt, list.Tasks, i));
        var tasks = (await ReadAsync<LayerTask>(store, paths, cancellation)).Skip(from - first).Take(count).ToList();
        return tasks.Count == count
            ? tasks
            : throw new DamagedWorkException($"{RunPaths.Layers(work, attempt)}: {tasks.Count} of {count} tasks are there.");
    }

    /// <summary>Writes some results, all of those that are kept together.</summary>
    public static Task WriteResultsAsync(
        IArtifactStore store,
        string work,
        int attempt,
        IReadOnlyList<LayerResult> results,
        CancellationToken cancellation
    ) => store.WriteJsonAsync(RunPaths.Results(work, attempt, results[0].Figures.Index), results, cancellation);

    /// <summary>The results of those tasks that compress, in their order.</summary>
    /// <param name="store">The store.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="tasks">The tasks, all of them.</param>
    /// <param name="cancellation">Cancels the reads.</param>
    /// <exception cref="DamagedWorkException">A result is gone.</exception>
    public static async Task<IReadOnlyList<LayerResult>> ResultsAsync(
        IArtifactStore store,
        string work,
        int attempt,
        IReadOnlyList<LayerTask> tasks,
        CancellationToken cancellation
    )
    {
        var compressed = tasks.TakeWhile(t => t.Step is not null).Count();
        var paths = Enumerable
            .Range(0, compressed)
            .Chunk(ResultsTogether)
            .Select(some => RunPaths.Results(work, attempt, some[0]))
            .ToList();
        var results = await ReadAsync<LayerResult>(store, paths, cancellation);
        for (var i = 0; i < compressed; i++)
            if (i >= results.Count || results[i].Figures.Index != i)
                throw new DamagedWorkException($"{RunPaths.Layers(work, attempt)}: the result of layer {i} is missing.");
        return [.. results.Select(r => r with { Figures = r.Figures with { Name = tasks[r.Figures.Index].Name } })];
    }

    private static async Task<IReadOnlyList<T>> ReadAsync<T>(
        IArtifactStore store,
        IReadOnlyList<string> paths,
        CancellationToken cancellation
    )
    {
        var records = new IReadOnlyList<T>[paths.Count];
        await Parallel.ForAsync(
            0,
            paths.Count,
            Options(cancellation),
            async (i, token) => records[i] = await store.ReadJsonAsync<IReadOnlyList<T>>(paths[i], token)
        );
        return [.. records.SelectMany(r => r)];
    }

    private static ParallelOptions Options(CancellationToken cancellation) =>
        new() { MaxDegreeOfParallelism = Parallelism, CancellationToken = cancellation };
}
