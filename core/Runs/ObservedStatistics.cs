using Serverless.Core.Statistics;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Statistics of one observation after another; the object that holds several stays open.</summary>
/// <param name="store">The store.</param>
/// <param name="state">Store folder of the state that was observed.</param>
internal sealed class ObservedStatistics(IArtifactStore store, string state) : IAsyncDisposable
{
    private (string Path, StatisticsSet Set)? open;

    /// <summary>The statistics of an observation; its Gram matrices can be read until the next is asked for.</summary>
    public async Task<InputStatistics> ReadAsync(int observation, CancellationToken cancellation)
    {
        var path = RunPaths.Statistics(state, observation);
        if (open?.Path != path)
        {
            await DisposeAsync();
            open = (path, await StatisticsSet.OpenAsync(store, path, cancellation));
        }
        return await StatisticsFile.ReadAsync(open.Value.Set.Of(observation), cancellation);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (open is not { } last)
            return;
        open = null;
        await last.Set.DisposeAsync();
    }
}
