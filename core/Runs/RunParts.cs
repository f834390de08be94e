using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Which objects a run has written that not every run does: what should be there and is not was lost, not left out.</summary>
/// <param name="Calibrated">The samples that techniques saw.</param>
/// <param name="Finishing">Steps behind the last chain, on coded layers.</param>
public sealed record RunParts(bool Calibrated, IReadOnlyList<RecipeStep> Finishing)
{
    /// <summary>Whether steps on the coded model have changed the graph of each attempt.</summary>
    internal bool IsChanged => Finishing.Any(s => s.RunsCoded);

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
