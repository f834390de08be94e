using Microsoft.Azure.Functions.Worker;
using Microsoft.DurableTask;
using Serverless.Core.Runs;

namespace Serverless.App;

/// <summary>The pipeline's orchestrations as functions.</summary>
public static class Orchestrations
{
    /// <summary>From a drop to its result.</summary>
    [Function(nameof(DropRun))]
    public static Task<DropResult> DropRun([OrchestrationTrigger] TaskOrchestrationContext context) =>
        new DropRun().RunAsync(new DurableOrchestration(context), context.GetInput<DropRequest>()!);

    /// <summary>One model to its result.</summary>
    [Function(nameof(CompressionRun))]
    public static Task<RunResult> CompressionRun([OrchestrationTrigger] TaskOrchestrationContext context) =>
        new CompressionRun().RunAsync(new DurableOrchestration(context), context.GetInput<RunRequest>()!);

    /// <summary>One model to the best attempt at a recipe, with nothing published.</summary>
    [Function(nameof(CandidateRun))]
    public static Task<Candidate> CandidateRun([OrchestrationTrigger] TaskOrchestrationContext context) =>
        new CandidateRun().RunAsync(new DurableOrchestration(context), context.GetInput<RunRequest>()!);

    /// <summary>Clears what a cancelled run leaves.</summary>
    [Function(nameof(CancelRun))]
    public static Task<Cleared> CancelRun([OrchestrationTrigger] TaskOrchestrationContext context) =>
        new CancelRun().RunAsync(new DurableOrchestration(context), context.GetInput<CancelInput>()!);

    /// <summary>A part of a wide fan-out.</summary>
    [Function(nameof(CompressLayers))]
    public static Task<LayersDone> CompressLayers([OrchestrationTrigger] TaskOrchestrationContext context) =>
        new CompressLayers().RunAsync(new DurableOrchestration(context), context.GetInput<LayersInput>()!);
}
