using System.Numerics.Tensors;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="MergeStatistics"/>.</summary>
/// <param name="State">Store folder of the state that was observed.</param>
/// <param name="From">The first observation.</param>
public sealed record MergeInput(string State, int From);

/// <summary>How many observations were merged.</summary>
public sealed record StatisticsMerged(int Observations);

/// <summary>
/// Merges the parts of some observations, in the order of the samples, so that the result does not depend on who was done first. What
/// follows from the whole is kept behind it: the statistics of the outputs of layers.
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
        var working = mine.SelectMany(o => o.Outputs).Select(l => LinearOutputs.WorkingBytes(l.Shape)).DefaultIfEmpty(0).Max();
        using var room = await context.Memory.EnterAsync(working + calibration.Shards * (long)ArtifactReader.MostHeld, cancellation);
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
                        var gram = new double[o.Outputs.Count > 0 ? o.Outputs[0].Shape.Axis * o.Outputs[0].Shape.Axis : 0];
                        InputStatistics? whole = null;
                        await writer.AddAsync(
                            o.Index,
                            0,
                            async stream => whole = await StatisticsFile.MergeAsync(views, stream, gram, token)
                        );
                        for (var i = 0; i < o.Outputs.Count; i++)
                        {
                            var (weight, shape) = o.Outputs[i];
                            var output = LinearOutputs.Of(whole!, gram, await ReadAsync(store, weight, token), shape);
                            await writer.AddAsync(o.Index, i + 1, stream => StatisticsFile.WriteAsync(stream, output, token));
                        }
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

    private static async Task<double[]> ReadAsync(IArtifactStore store, WeightData weight, CancellationToken cancellation)
    {
        await using var reader = await weight.OpenAsync(store, cancellation);
        var values = new double[reader.Elements];
        await reader.EachAsync((at, part) => TensorPrimitives.ConvertTruncating(part, values.AsSpan((int)at)), cancellation);
        return values;
    }
}
