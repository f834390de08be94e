using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Which objects a run has written that not every run does: what should be there and is not was lost, not left out.</summary>
/// <param name="Calibrated">Stages whose steps saw samples, in order.</param>
/// <param name="Finishing">Steps behind the last chain, on coded layers.</param>
public sealed record RunParts(IReadOnlyList<int> Calibrated, IReadOnlyList<RecipeStep> Finishing)
{
    /// <summary>Whether steps on the coded model have changed the graph of each attempt.</summary>
    internal bool IsChanged => Finishing.Any(s => s.RunsCoded);

    /// <summary>The widest look of a run at its samples: all are the first of the data.</summary>
    /// <param name="store">The store.</param>
    /// <param name="request">The run, at its last state.</param>
    /// <param name="parts">What the run has written; null where that is not known.</param>
    /// <param name="cancellation">Cancels the reads.</param>
    /// <returns>Null where no step saw samples.</returns>
    /// <exception cref="DamagedWorkException">A record is gone or damaged.</exception>
    internal static async Task<CalibrationPlan?> SeenAsync(
        IArtifactStore store,
        RunRequest request,
        RunParts? parts,
        CancellationToken cancellation
    )
    {
        CalibrationPlan? most = null;
        foreach (var stage in parts?.Calibrated ?? [.. Enumerable.Range(0, request.Stage + 1)])
        {
            var path = RunPaths.Calibration(RunPaths.State(request.Work, stage));
            var plan = await ReadAsync<CalibrationPlan>(store, path, parts is null ? null : true, cancellation);
            most = plan is null || plan.Runs <= most?.Runs ? most : plan;
        }
        return most;
    }

    /// <summary>Reads a record that a run may have written.</summary>
    /// <param name="store">The store.</param>
    /// <param name="path">The record.</param>
    /// <param name="written">Whether it was; null where that is not known.</param>
    /// <param name="cancellation">Cancels the read.</param>
    /// <returns>Null where it was not written.</returns>
    /// <exception cref="DamagedWorkException">It was written, and is gone or damaged.</exception>
    internal static async Task<T?> ReadAsync<T>(IArtifactStore store, string path, bool? written, CancellationToken cancellation)
        where T : class =>
        written ?? await store.FindAsync(path, cancellation) is not null ? await store.ReadJsonAsync<T>(path, cancellation) : null;
}
