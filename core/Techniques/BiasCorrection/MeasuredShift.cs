using Serverless.Core.Execution;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>The shift of each channel's mean, measured on data (Nagel et al. 2019, appendix D).</summary>
internal static class MeasuredShift
{
    /// <summary>All samples pass a layer before its bias is shifted, and only then the layers that follow it.</summary>
    /// <param name="coded">The coded model, whose biases are shifted in place.</param>
    /// <param name="biases">Value of a layer → its bias.</param>
    /// <param name="wanted">Value of a layer → the means of its channels in the original.</param>
    /// <param name="samples">The samples.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>Value → the shift of each channel; null when the values between layers take too much of the disk.</returns>
    public static Dictionary<string, float[]>? Of(
        LoweredModel coded,
        IReadOnlyDictionary<string, BiasPlace> biases,
        Dictionary<string, ChannelMeans> wanted,
        IEnumerable<Sample> samples,
        CancellationToken cancellation
    )
    {
        var initializers = coded.Model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var before = biases
            .Values.Select(b => b.Values)
            .Where(initializers.ContainsKey)
            .Distinct()
            .ToDictionary(n => n, n => initializers[n].RawData, StringComparer.Ordinal);
        var (found, got) = (
            new Dictionary<string, float[]>(StringComparer.Ordinal),
            new Dictionary<string, ChannelMeans>(StringComparer.Ordinal)
        );
        using var live = new LiveValues();
        try
        {
            StagedRun.Run(
                coded.Model,
                coded.Folder,
                biases.Keys.Where(wanted.ContainsKey).ToHashSet(StringComparer.Ordinal),
                samples,
                live,
                (name, values, shape) => ChannelMeans.Add(got, name, values, shape),
                Shift,
                cancellation
            );
            return found;
        }
        catch (LiveLimitException)
        {
            foreach (var (name, bytes) in before)
                initializers[name].RawData = bytes;
            return null;
        }

        void Shift(string value)
        {
            if (!got.Remove(value, out var means) || means.Sums.Length != wanted[value].Sums.Length)
                return;
            var lack = new float[means.Sums.Length];
            for (var c = 0; c < lack.Length; c++)
                lack[c] = (float)(wanted[value].Mean(c) - means.Mean(c));
            if (!lack.All(float.IsFinite))
                return;
            found[value] = lack;
            biases[value].Shift(initializers, lack);
        }
    }
}
