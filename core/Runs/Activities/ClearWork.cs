using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="ClearWork"/>.</summary>
/// <param name="Work">The run's work folder.</param>
public sealed record ClearInput(string Work)
{
    /// <summary>Whether <see cref="Work"/> is one object and no folder.</summary>
    public bool Alone { get; init; }

    /// <summary>How often it was cleared before.</summary>
    public int Look { get; init; }
}

/// <summary>How much was deleted.</summary>
public sealed record Cleared(int Objects);

/// <summary>Deletes what a finished run kept for itself; compressed layers, which later runs may take, stay.</summary>
public sealed class ClearWork : Activity<ClearInput, Cleared>
{
    /// <inheritdoc/>
    public override async Task<Cleared> RunAsync(ClearInput input, ActivityContext context, CancellationToken cancellation)
    {
        if (!input.Alone)
            return await ClearAsync(context.Store, input.Work, cancellation);
        await context.Store.DeleteAsync(input.Work, cancellation);
        return new Cleared(1);
    }

    /// <summary>Deletes what lies in a folder of the work.</summary>
    public static async Task<Cleared> ClearAsync(IArtifactStore store, string folder, CancellationToken cancellation)
    {
        var left = new List<string>();
        await foreach (var a in store.ListAsync(folder + "/", cancellation))
            left.Add(a.Path);
        await Parallel.ForEachAsync(left, cancellation, async (path, token) => await store.DeleteAsync(path, token));
        return new Cleared(left.Count);
    }
}
