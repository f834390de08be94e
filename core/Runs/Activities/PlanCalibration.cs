using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>An input of layers that is observed.</summary>
/// <param name="Index">Position among the observations.</param>
/// <param name="Views">The values it is; several when a weight has several uses.</param>
/// <param name="Wanted">What is kept of them.</param>
public sealed record Observation(int Index, IReadOnlyList<InputView> Views, StatisticKinds Wanted)
{
    /// <summary>
    /// Layers of this input whose outputs' Gram matrices are wanted too; they follow from its own (<see cref="LinearOutputs"/>).
    /// </summary>
    public IReadOnlyList<LinearLayer> Outputs { get; init; } = [];
}

/// <summary>A layer that multiplies by its weight and does nothing else.</summary>
/// <param name="Weight">Where the weight is.</param>
/// <param name="Shape">How it is viewed.</param>
public sealed record LinearLayer(WeightData Weight, LayerShape Shape);

/// <summary>What is observed, and on which samples.</summary>
/// <param name="Observations">The observations.</param>
/// <param name="MostSamples">Samples that techniques ask for.</param>
/// <param name="Runs">Runs of the model that are observed: the first of the data, or synthetic ones.</param>
/// <param name="HeldOut">Runs of the data left to compare on; 0 when there are none, or no data.</param>
/// <param name="Source"><c>data</c> or <c>synthetic</c>.</param>
public sealed record CalibrationPlan(IReadOnlyList<Observation> Observations, int MostSamples, int Runs, long HeldOut, string Source)
{
    /// <summary>Runs that one activity observes.</summary>
    public int ShardRuns { get; init; } = PlanCalibration.ShardRuns;

    /// <summary>Activities that share the runs.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public int Shards => Math.Max(1, (Runs + ShardRuns - 1) / ShardRuns);
}

/// <summary>How many activities share the samples.</summary>
public sealed record CalibrationPlanned(int Shards, int Runs, string Source);

/// <summary>
/// Chooses the samples to calibrate on, and writes the model that is run for it. Of the data at most half is taken, so that the
/// comparison is made on samples that no technique has seen.
/// </summary>
public sealed class PlanCalibration : Activity<StateInput, CalibrationPlanned>
{
    /// <summary>Runs that one activity observes.</summary>
    public const int ShardRuns = 32;

    // Each activity unpacks the compressed samples before its own: so many of them unpack the data 32 times on the whole, however long it
    // is.
    private const int MostUnpacking = 64;
    private const int SyntheticRuns = 32;

    /// <inheritdoc/>
    public override async Task<CalibrationPlanned> RunAsync(StateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var model = await ModelState.GraphAsync(store, request, cancellation);
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        using var data = await Evaluate.OpenDataAsync(
            store,
            request,
            new ModelIndex(request.Model, model, new Dictionary<string, Artifact>()),
            etags,
            cancellation
        );
        var none = data is null && InputSpec.WhyNone(model) is not null;
        var synthetic = none ? 0 : SyntheticRuns;
        var runs = data is null ? synthetic : (int)Math.Min(calibration.MostSamples, Math.Max(1, data.Runs / 2));
        var heldOut = data is null || data.Runs == runs ? 0 : data.Runs - runs;
        calibration = calibration with { Runs = runs, HeldOut = heldOut, Source = Source(none, data) };
        if (data is { Compressed: true })
            calibration = calibration with { ShardRuns = Math.Max(ShardRuns, (runs + MostUnpacking - 1) / MostUnpacking) };
        await ModelWriter.WriteAsync(
            store,
            model,
            StorePath.Parent(request.Model),
            etags,
            RunPaths.CalibrationModel(request.State),
            0,
            cancellation
        );
        await store.WriteJsonAsync(RunPaths.Calibration(request.State), calibration, cancellation);
        return new CalibrationPlanned(calibration.Shards, runs, calibration.Source);
    }

    private static string Source(bool none, NpzData? data)
    {
        if (data is not null)
            return Comparison.Data;
        return none ? Comparison.None : Comparison.Synthetic;
    }
}
