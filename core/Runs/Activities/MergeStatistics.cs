using Serverless.Core.Statistics;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="MergeStatistics"/>.</summary>
/// <param name="State">Store folder of the state that was observed.</param>
/// <param name="From">The first observation.</param>
public sealed record MergeInput(string State, int From);

/// <summary>How many observations were merged.</summary>
public sealed record StatisticsMerged(int Observations);

/// <summary>
/// Merges the parts of some observations, in the order of the samples, so that the result does not depend on who was done first.
/// </summary>
public sealed class MergeStatistics : Activity<MergeInput, StatisticsMerged>
{
    /// <summary>Observations that one activity merges, and one object holds.</summary>
    public const int Most = 32;

    /// <inheritdoc/>
    public override async Task<StatisticsMerged> RunAsync(MergeInput input, ActivityContext context, CancellationToken cancellation)
    {
        var store = context.Store;
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(input.State), cancellation);
        var mine = calibration.Observations.Skip(input.From).Take(Most).ToList();
        using var room = await context.Memory.EnterAsync(calibration.Shards * (long)ArtifactReader.MostHeld, cancellation);
        var parts = new List<StatisticsSet>();
        try
        {
            for (var s = 0; s < calibration.Shards; s++)
                parts.Add(await StatisticsSet.OpenAsync(store, RunPaths.StatisticsPart(input.State, s), cancellation));
            await StatisticsSet.WriteAsync(
                store,
                RunPaths.Statistics(input.State, input.From),
                async (writer, token) =>
                {
                    foreach (var o in mine)
                    {
                        var views = parts.SelectMany(p => Enumerable.Range(0, o.Views.Count).Select(v => p.Of(o.Index, v))).ToList();
                        await writer.AddAsync(o.Index, 0, stream => StatisticsFile.MergeAsync(views, stream, token));
                    }
                },
                cancellation
            );
        }
        finally
        {
            foreach (var part in parts)
                await part.DisposeAsync();
        }
        return new StatisticsMerged(mine.Count);
    }
}
