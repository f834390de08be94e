using Microsoft.Azure.Functions.Worker;
using Serverless.Core.Runs;

namespace Serverless.App;

/// <summary>The pipeline's activities as functions.</summary>
public sealed class Activities(AppHost host)
{
    /// <inheritdoc cref="Core.Runs.CheckDrop"/>
    [Function(nameof(CheckDrop))]
    public Task<DropState> CheckDrop([ActivityTrigger] DropCheck input, FunctionContext context) =>
        host.RunAsync<CheckDrop, DropCheck, DropState>(input, context);

    /// <inheritdoc cref="Core.Runs.Inspect"/>
    [Function(nameof(Inspect))]
    public Task<Inspected> Inspect([ActivityTrigger] InspectInput input, FunctionContext context) =>
        host.RunAsync<Inspect, InspectInput, Inspected>(input, context);

    /// <inheritdoc cref="Core.Runs.ApplyGraphStep"/>
    [Function(nameof(ApplyGraphStep))]
    public Task<GraphStepDone> ApplyGraphStep([ActivityTrigger] GraphStepInput input, FunctionContext context) =>
        host.RunAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(input, context);

    /// <inheritdoc cref="Core.Runs.ApplyModelStep"/>
    [Function(nameof(ApplyModelStep))]
    public Task<GraphStepDone> ApplyModelStep([ActivityTrigger] GraphStepInput input, FunctionContext context) =>
        host.RunAsync<ApplyModelStep, GraphStepInput, GraphStepDone>(input, context);

    /// <inheritdoc cref="Core.Runs.Plan"/>
    [Function(nameof(Plan))]
    public Task<Planned> Plan([ActivityTrigger] StateInput input, FunctionContext context) =>
        host.RunAsync<Plan, StateInput, Planned>(input, context);

    /// <inheritdoc cref="Core.Runs.PlanCalibration"/>
    [Function(nameof(PlanCalibration))]
    public Task<CalibrationPlanned> PlanCalibration([ActivityTrigger] StateInput input, FunctionContext context) =>
        host.RunAsync<PlanCalibration, StateInput, CalibrationPlanned>(input, context);

    /// <inheritdoc cref="Core.Runs.CalibrateShard"/>
    [Function(nameof(CalibrateShard))]
    public Task<ShardCalibrated> CalibrateShard([ActivityTrigger] CalibrateInput input, FunctionContext context) =>
        host.RunAsync<CalibrateShard, CalibrateInput, ShardCalibrated>(input, context);

    /// <inheritdoc cref="Core.Runs.ApplyCodedStep"/>
    [Function(nameof(ApplyCodedStep))]
    public Task<CodedStepDone> ApplyCodedStep([ActivityTrigger] CodedStepInput input, FunctionContext context) =>
        host.RunAsync<ApplyCodedStep, CodedStepInput, CodedStepDone>(input, context);

    /// <inheritdoc cref="Core.Runs.MergeStatistics"/>
    [Function(nameof(MergeStatistics))]
    public Task<StatisticsMerged> MergeStatistics([ActivityTrigger] MergeInput input, FunctionContext context) =>
        host.RunAsync<MergeStatistics, MergeInput, StatisticsMerged>(input, context);

    /// <inheritdoc cref="Core.Runs.SurveyWeights"/>
    [Function(nameof(SurveyWeights))]
    public Task<WeightsSurveyed> SurveyWeights([ActivityTrigger] SurveyInput input, FunctionContext context) =>
        host.RunAsync<SurveyWeights, SurveyInput, WeightsSurveyed>(input, context);

    /// <inheritdoc cref="Core.Runs.SettleOptions"/>
    [Function(nameof(SettleOptions))]
    public Task<Planned> SettleOptions([ActivityTrigger] StateInput input, FunctionContext context) =>
        host.RunAsync<SettleOptions, StateInput, Planned>(input, context);

    /// <inheritdoc cref="Core.Runs.MergeLayers"/>
    [Function(nameof(MergeLayers))]
    public Task<LayersMerged> MergeLayers([ActivityTrigger] MergeLayersInput input, FunctionContext context) =>
        host.RunAsync<MergeLayers, MergeLayersInput, LayersMerged>(input, context);

    /// <inheritdoc cref="Core.Runs.MeasureLayers"/>
    [Function(nameof(MeasureLayers))]
    public Task<LayersMeasured> MeasureLayers([ActivityTrigger] MeasureInput input, FunctionContext context) =>
        host.RunAsync<MeasureLayers, MeasureInput, LayersMeasured>(input, context);

    /// <inheritdoc cref="Core.Runs.Allocate"/>
    [Function(nameof(Allocate))]
    public Task<Planned> Allocate([ActivityTrigger] AllocateInput input, FunctionContext context) =>
        host.RunAsync<Allocate, AllocateInput, Planned>(input, context);

    /// <inheritdoc cref="Core.Runs.CompressLayer"/>
    [Function(nameof(CompressLayer))]
    public Task<LayerResult> CompressLayer([ActivityTrigger] CompressInput input, FunctionContext context) =>
        host.RunAsync<CompressLayer, CompressInput, LayerResult>(input, context);

    /// <inheritdoc cref="Core.Runs.RecordLayers"/>
    [Function(nameof(RecordLayers))]
    public Task<LayersRecorded> RecordLayers([ActivityTrigger] RecordInput input, FunctionContext context) =>
        host.RunAsync<RecordLayers, RecordInput, LayersRecorded>(input, context);

    /// <inheritdoc cref="Core.Runs.SendGpuStep"/>
    [Function(nameof(SendGpuStep))]
    public Task<GpuSent> SendGpuStep([ActivityTrigger] GpuSend input, FunctionContext context) =>
        host.RunAsync<SendGpuStep, GpuSend, GpuSent>(input, context);

    /// <inheritdoc cref="Core.Runs.Reassemble"/>
    [Function(nameof(Reassemble))]
    public Task<Reassembled> Reassemble([ActivityTrigger] ReassembleInput input, FunctionContext context) =>
        host.RunAsync<Reassemble, ReassembleInput, Reassembled>(input, context);

    /// <inheritdoc cref="Core.Runs.Evaluate"/>
    [Function(nameof(Evaluate))]
    public Task<Evaluated> Evaluate([ActivityTrigger] EvaluateInput input, FunctionContext context) =>
        host.RunAsync<Evaluate, EvaluateInput, Evaluated>(input, context);

    /// <inheritdoc cref="Core.Runs.Replan"/>
    [Function(nameof(Replan))]
    public Task<Planned> Replan([ActivityTrigger] ReplanInput input, FunctionContext context) =>
        host.RunAsync<Replan, ReplanInput, Planned>(input, context);

    /// <inheritdoc cref="Core.Runs.Publish"/>
    [Function(nameof(Publish))]
    public Task<Published> Publish([ActivityTrigger] PublishInput input, FunctionContext context) =>
        host.RunAsync<Publish, PublishInput, Published>(input, context);

    /// <inheritdoc cref="Core.Runs.Notify"/>
    [Function(nameof(Notify))]
    public Task<Notified> Notify([ActivityTrigger] NotifyInput input, FunctionContext context) =>
        host.RunAsync<Notify, NotifyInput, Notified>(input, context);

    /// <inheritdoc cref="Core.Runs.ClearWork"/>
    [Function(nameof(ClearWork))]
    public Task<Cleared> ClearWork([ActivityTrigger] ClearInput input, FunctionContext context) =>
        host.RunAsync<ClearWork, ClearInput, Cleared>(input, context);

    /// <inheritdoc cref="Core.Runs.WriteFailure"/>
    [Function(nameof(WriteFailure))]
    public Task<FailureWritten> WriteFailure([ActivityTrigger] FailureInput input, FunctionContext context) =>
        host.RunAsync<WriteFailure, FailureInput, FailureWritten>(input, context);
}
