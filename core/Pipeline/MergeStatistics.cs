using Serverless.Core.Storage;
using Serverless.Core.Techniques.Calibration;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="MergeStatistics"/>.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="From">The first observation.</param>
public sealed record MergeInput(string Work, int From);

/// <summary>How many observations were merged.</summary>
public sealed record StatisticsMerged(int Observations);

/// <summary>Merges the parts of some observations, in the order of the samples, so that the result does not depend on who was done first.</summary>
public sealed class MergeStatistics : Activity<MergeInput, StatisticsMerged>
{
    /// <summary>Observations that one activity merges.</summary>
    public const int Most = 16;

    /// <inheritdoc/>
    public override async Task<StatisticsMerged> RunAsync(MergeInput input, ActivityContext context, CancellationToken cancellation)
    {
        var store = context.Store;
        var calibration = await store.ReadJsonAsync<Calibration>(RunNames.Calibration(input.Work), cancellation);
        var shards = calibration.Shards;
        var mine = calibration.Observations.Skip(input.From).Take(Most).ToList();
        foreach (var o in mine)
        {
            var parts = Enumerable.Range(0, shards).SelectMany(s => Enumerable.Range(0, o.Views.Count).Select(v => RunNames.StatisticsPart(input.Work, o.Index, v, s))).ToList();
            // Done before, by an activity whose answer was lost: its parts may be gone.
            if (await store.FindAsync(RunNames.Statistics(input.Work, o.Index), cancellation) is null)
                await StatisticsFile.MergeAsync(store, parts, RunNames.Statistics(input.Work, o.Index), cancellation);
            foreach (var part in parts) await store.DeleteAsync(part, cancellation);
        }
        return new StatisticsMerged(mine.Count);
    }
}
