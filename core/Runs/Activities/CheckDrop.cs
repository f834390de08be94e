using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>A drop to run once it is whole.</summary>
/// <param name="RunId">The run's id, which says what versions the drop's parts had when it was asked for.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Predecessor">Store folder of the result whose recipe to take, or null for the drop's own.</param>
public sealed record DropRequest(string RunId, string Model, string? Predecessor = null)
{
    /// <summary>The request for the drop that a blob belongs to, or null when that holds no model, or more than one.</summary>
    /// <exception cref="BadInputException">The predecessor left no recipe.</exception>
    public static async Task<DropRequest?> OfAsync(IArtifactStore store, string path, string? predecessor, CancellationToken cancellation)
    {
        if (await StoredDrop.FindAsync(store, path, cancellation) is not { } drop)
            return null;
        return new DropRequest(RunPaths.Id(drop.Name, await PartsAsync(store, drop, predecessor, cancellation)), drop.Model, predecessor);
    }

    internal static async Task<IReadOnlyList<Artifact>> PartsAsync(
        IArtifactStore store,
        StoredDrop drop,
        string? predecessor,
        CancellationToken cancellation
    )
    {
        if (predecessor is null)
            return drop.Parts;
        var recipe =
            await store.FindAsync(RecipeOf(predecessor), cancellation)
            ?? throw new BadInputException(
                $"{RecipeOf(predecessor)}: the earlier run left no recipe; name a run whose result is still there."
            );
        return [.. drop.Parts, recipe];
    }

    internal static string RecipeOf(string predecessor) => $"{predecessor}/recipe.yaml";
}

/// <summary>Input of <see cref="CheckDrop"/>.</summary>
/// <param name="Drop">The drop.</param>
/// <param name="Look">How often it was looked at before.</param>
public sealed record DropCheck(DropRequest Drop, int Look);

/// <summary>What <see cref="CheckDrop"/> found.</summary>
/// <param name="Request">The run to do, once the drop is whole.</param>
/// <param name="Missing">What is not there yet, or null.</param>
/// <param name="Superseded">The drop is another one by now, which has a run of its own.</param>
/// <param name="IsFolder">Its files may arrive one after another.</param>
public sealed record DropState(RunRequest? Request, string? Missing, bool Superseded, bool IsFolder);

/// <summary>Looks whether a drop is whole, and notes the versions of its parts, which are the ones the run will read.</summary>
public sealed class CheckDrop : Activity<DropCheck, DropState>
{
    /// <inheritdoc/>
    public override async Task<DropState> RunAsync(DropCheck check, ActivityContext context, CancellationToken cancellation)
    {
        var (store, input) = (context.Store, check.Drop);
        var drop = await StoredDrop.FindAsync(store, input.Model, cancellation);
        if (drop is null)
            return new DropState(null, null, true, false);
        var parts = await DropRequest.PartsAsync(store, drop, input.Predecessor, cancellation);
        if (RunPaths.Id(drop.Name, parts) != input.RunId)
            return new DropState(null, null, true, drop.IsFolder);
        try
        {
            await ModelIndexer.IndexAsync(store, drop.Model, cancellation);
        }
        catch (MissingDataException e)
        {
            return new DropState(null, e.Message, false, drop.IsFolder);
        }
        var work = $"work/{input.RunId}";
        await RunPaths.WriteSnapshotAsync(store, work, parts, cancellation);
        var recipe = input.Predecessor is { } p ? DropRequest.RecipeOf(p) : drop.Recipe;
        return new DropState(
            new RunRequest(drop.Name, drop.Model, recipe, drop.Data, work, StorePath.Shards, RunPaths.Output(input.RunId))
            {
                Snapshot = RunPaths.Snapshot(work),
                Predecessor = input.Predecessor,
            },
            null,
            false,
            drop.IsFolder
        );
    }
}
