using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Calibration;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Pipeline;

/// <summary>Scales and sizes of the values that were observed as a whole.</summary>
internal static class ActivationScales
{
    /// <summary>Value → what is known of it; values that no sample reached are left out.</summary>
    public static async Task<IReadOnlyDictionary<string, ObservedValue>> ReadAsync(
        IArtifactStore store, string work, ActivationRounding how, bool? calibrated, CancellationToken cancellation)
    {
        var scales = new Dictionary<string, ObservedValue>(StringComparer.Ordinal);
        if (await RunParts.ReadAsync<Calibration>(store, RunNames.Calibration(work), calibrated, cancellation) is not { } calibration) return scales;
        await using var observed = new ObservedStatistics(store, work);
        foreach (var o in calibration.Observations.Where(o => o.Views is [{ Axis: 0 }] && o.Wanted.HasFlag(Statistics.Histogram)))
        {
            var statistics = await observed.ReadAsync(o.Index, cancellation);
            if (statistics.Samples == 0) continue;
            var (min, max) = ActivationRange.Find(statistics, how.Range, how.Percentile);
            scales[o.Views[0].Value] = new ObservedValue(CodeScale.Of(min, max), (double)statistics.Histogram!.Counts.Sum() / statistics.Samples);
        }
        return scales;
    }
}
