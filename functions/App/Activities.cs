using Microsoft.Azure.Functions.Worker;
using Serverless.Core.Pipeline;

namespace Serverless.App;

/// <summary>The pipeline's activities as functions.</summary>
public sealed class Activities(AppHost host)
{
    /// <inheritdoc cref="Core.Pipeline.CheckDrop"/>
    [Function(nameof(CheckDrop))]
    public Task<DropState> CheckDrop([ActivityTrigger] DropCheck input, CancellationToken cancellation) => host.RunAsync<CheckDrop, DropCheck, DropState>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Inspect"/>
    [Function(nameof(Inspect))]
    public Task<Inspected> Inspect([ActivityTrigger] InspectInput input, CancellationToken cancellation) => host.RunAsync<Inspect, InspectInput, Inspected>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Plan"/>
    [Function(nameof(Plan))]
    public Task<Planned> Plan([ActivityTrigger] PlanInput input, CancellationToken cancellation) => host.RunAsync<Plan, PlanInput, Planned>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.ReadBudget"/>
    [Function(nameof(ReadBudget))]
    public Task<Budget> ReadBudget([ActivityTrigger] PlanInput input, CancellationToken cancellation) => host.RunAsync<ReadBudget, PlanInput, Budget>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.PlanCalibration"/>
    [Function(nameof(PlanCalibration))]
    public Task<CalibrationPlanned> PlanCalibration([ActivityTrigger] PlanInput input, CancellationToken cancellation) => host.RunAsync<PlanCalibration, PlanInput, CalibrationPlanned>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.CalibrateShard"/>
    [Function(nameof(CalibrateShard))]
    public Task<ShardCalibrated> CalibrateShard([ActivityTrigger] CalibrateInput input, CancellationToken cancellation) => host.RunAsync<CalibrateShard, CalibrateInput, ShardCalibrated>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.PlanRescale"/>
    [Function(nameof(PlanRescale))]
    public Task<RescalePlanned> PlanRescale([ActivityTrigger] PlanInput input, CancellationToken cancellation) => host.RunAsync<PlanRescale, PlanInput, RescalePlanned>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Rescale"/>
    [Function(nameof(Rescale))]
    public Task<Rescaled> Rescale([ActivityTrigger] PlanInput input, CancellationToken cancellation) => host.RunAsync<Rescale, PlanInput, Rescaled>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.CorrectBias"/>
    [Function(nameof(CorrectBias))]
    public Task<BiasesCorrected> CorrectBias([ActivityTrigger] CorrectBiasInput input, CancellationToken cancellation) => host.RunAsync<CorrectBias, CorrectBiasInput, BiasesCorrected>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.MergeStatistics"/>
    [Function(nameof(MergeStatistics))]
    public Task<StatisticsMerged> MergeStatistics([ActivityTrigger] MergeInput input, CancellationToken cancellation) => host.RunAsync<MergeStatistics, MergeInput, StatisticsMerged>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.MeasureLayers"/>
    [Function(nameof(MeasureLayers))]
    public Task<LayersMeasured> MeasureLayers([ActivityTrigger] MeasureInput input, CancellationToken cancellation) => host.RunAsync<MeasureLayers, MeasureInput, LayersMeasured>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.ChooseWidths"/>
    [Function(nameof(ChooseWidths))]
    public Task<Planned> ChooseWidths([ActivityTrigger] ChooseInput input, CancellationToken cancellation) => host.RunAsync<ChooseWidths, ChooseInput, Planned>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.CompressLayer"/>
    [Function(nameof(CompressLayer))]
    public Task<CompressedLayer> CompressLayer([ActivityTrigger] CompressInput input, CancellationToken cancellation) => host.RunAsync<CompressLayer, CompressInput, CompressedLayer>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.SendGpuStep"/>
    [Function(nameof(SendGpuStep))]
    public Task<GpuSent> SendGpuStep([ActivityTrigger] GpuSend input, CancellationToken cancellation) => host.RunAsync<SendGpuStep, GpuSend, GpuSent>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Reassemble"/>
    [Function(nameof(Reassemble))]
    public Task<Reassembled> Reassemble([ActivityTrigger] ReassembleInput input, CancellationToken cancellation) => host.RunAsync<Reassemble, ReassembleInput, Reassembled>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Evaluate"/>
    [Function(nameof(Evaluate))]
    public Task<Evaluated> Evaluate([ActivityTrigger] EvaluateInput input, CancellationToken cancellation) => host.RunAsync<Evaluate, EvaluateInput, Evaluated>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Replan"/>
    [Function(nameof(Replan))]
    public Task<Planned> Replan([ActivityTrigger] ReplanInput input, CancellationToken cancellation) => host.RunAsync<Replan, ReplanInput, Planned>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Publish"/>
    [Function(nameof(Publish))]
    public Task<Published> Publish([ActivityTrigger] PublishInput input, CancellationToken cancellation) => host.RunAsync<Publish, PublishInput, Published>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.Notify"/>
    [Function(nameof(Notify))]
    public Task<Notified> Notify([ActivityTrigger] NotifyInput input, CancellationToken cancellation) => host.RunAsync<Notify, NotifyInput, Notified>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.ClearWork"/>
    [Function(nameof(ClearWork))]
    public Task<Cleared> ClearWork([ActivityTrigger] ClearInput input, CancellationToken cancellation) => host.RunAsync<ClearWork, ClearInput, Cleared>(input, cancellation);

    /// <inheritdoc cref="Core.Pipeline.WriteFailure"/>
    [Function(nameof(WriteFailure))]
    public Task<FailureWritten> WriteFailure([ActivityTrigger] FailureInput input, CancellationToken cancellation) => host.RunAsync<WriteFailure, FailureInput, FailureWritten>(input, cancellation);
}
