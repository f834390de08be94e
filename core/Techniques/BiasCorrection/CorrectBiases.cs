using System.ComponentModel.DataAnnotations;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>
/// Bias correction (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", section
/// 4.2 and appendix D): biases take up what rounding shifts each channel's mean by.
/// </summary>
public sealed record BiasCorrectionOptions
{
    /// <summary>
    /// Let biases make up for the shift that rounding gives each channel's mean, measured on data (default true; without this step only for
    /// static int8).
    /// </summary>
    public bool Apply { get; init; } = true;

    /// <summary>Samples to measure the shift on, of those calibrated on (default 32).</summary>
    [Range(1, 10_000)]
    public int Samples { get; init; } = 32;
}

/// <summary>What was corrected, as reports have it.</summary>
/// <param name="Layers">Layers whose biases changed.</param>
/// <param name="Samples">Samples measured on; 0 when the shift follows from batch normalizations.</param>
/// <param name="Skipped">Why nothing was corrected, or null.</param>
public sealed record BiasesCorrected(int Layers, int Samples, string? Skipped);

/// <summary>
/// Bias correction (Nagel et al. 2019). With data, empirical (appendix D): layer by layer from the input on
/// (<see cref="StagedRun"/>), the mean of each channel of the layer's output in the coded model, the biases before it corrected, is
/// compared
/// with that in the original, and the bias takes up the difference. So it mends the shift that clipping and rounding cause, of weights and
/// activations alike. Without data, analytic (section 4.2; <see cref="DataFreeBiasCorrection"/>).
/// </summary>
public sealed class CorrectBiases : GraphTechnique<BiasCorrectionOptions>
{
    /// <summary>Field of the report.</summary>
    public const string Field = "biasCorrection";

    /// <inheritdoc/>
    public override string Step => "correctBias";

    /// <inheritdoc/>
    public override string About => "Biases take up the shift that rounding gives each channel's mean (Nagel et al. 2019).";

    /// <inheritdoc/>
    public override StepOrder Order => StepOrder.Last;

    /// <inheritdoc/>
    public override bool RunsCoded => true;

    /// <inheritdoc/>
    protected override bool IsOff(BiasCorrectionOptions options) => !options.Apply;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, BiasCorrectionOptions options) =>
        new([], StatisticKinds.None, options.Samples);

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, BiasCorrectionOptions options, CancellationToken cancellation)
    {
        work.RunsModel();
        var (shifts, samples, skipped) = await FindAsync(work, options, cancellation);
        if (shifts.Count > 0)
        {
            await OwnBiases.GiveAsync(work.Model, work.Coded, shifts, work.ReadAsync, cancellation);
            // Biases that were replaced.
            new ModelEdit(work.Model).DropDead(cancellation);
        }
        work.Note(Field, new BiasesCorrected(shifts.Count, samples, skipped));
    }

    private static async Task<(IReadOnlyDictionary<string, float[]> Shifts, int Samples, string? Skipped)> FindAsync(
        GraphWork work,
        BiasCorrectionOptions options,
        CancellationToken cancellation
    )
    {
        var runs = work.Runs!;
        if (runs.Original.Bytes > ModelRunner.WholeLimit)
            return Skip($"the model is larger than {ModelRunner.WholeLimit >> 20} MB");
        var copy = work.Model.Clone();
        var own = await OwnBiases.GiveAsync(copy, work.Coded, null, work.ReadAsync, cancellation);
        if (own.Count == 0)
            return Skip("the last chain compressed no layer that takes a bias");
        if (!runs.IsData && work.Normalized.Count == 0)
            return Skip("the drop has no data, and the model no batch normalizations to tell what layers get to see");
        var coded = await runs.LowerAsync(copy, cancellation);
        var places = own.ToDictionary(o => o.Key, o => coded.Biases.GetValueOrDefault(o.Value) ?? new BiasPlace(o.Value, null));
        var original = await runs.FolderAsync(cancellation);
        if (!runs.IsData)
        {
            var shifts = DataFreeBiasCorrection.Of(runs.Original.Model, original, coded.Model, coded.Folder, places.Keys, work.Normalized);
            return shifts.Count > 0 ? (shifts, 0, null) : Skip("the drop has no data, and no layer follows a batch normalization");
        }
        for (var count = Math.Min(options.Samples, runs.Samples); ; count /= 2)
        {
            var wanted = new Dictionary<string, ChannelMeans>(StringComparer.Ordinal);
            var seen = await ValueTap.RunAsync(
                original,
                runs.Original,
                places.Keys.ToHashSet(StringComparer.Ordinal),
                runs.Read(count, cancellation),
                (name, values, shape) => ChannelMeans.Add(wanted, name, values, shape),
                _ => Task.CompletedTask,
                cancellation
            );
            // Fewer samples, where the values between the layers would fill the disk.
            if (MeasuredShift.Of(coded, places, wanted, runs.Read(count, cancellation), cancellation) is { } found)
                return (found, seen, null);
            if (count == 1)
                return Skip($"the values between its layers take more than {LiveValues.FileLimit >> 20} MB");
        }

        static (IReadOnlyDictionary<string, float[]>, int, string?) Skip(string why) => (new Dictionary<string, float[]>(), 0, why);
    }
}
