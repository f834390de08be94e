using System.ComponentModel.DataAnnotations;

namespace Serverless.Core.Recipes;

/// <summary>Where a step runs. Every step takes these options beside its own.</summary>
public sealed record StepPlacement
{
    /// <summary>What the step runs on: cpu (default), or gpu: sent to the GPU queue where the host has one, else run in place.</summary>
    public StepDevice Device { get; init; } = StepDevice.Cpu;

    /// <summary>When no GPU has done the step in time, or it failed there: none (default) fails the run, cpu runs it in place.</summary>
    public GpuFallback Fallback { get; init; } = GpuFallback.None;

    /// <summary>Minutes to wait for the GPU before trying again (default 60).</summary>
    [Range(1, 10080)]
    public int Timeout { get; init; } = 60;
}

/// <summary>What a step runs on.</summary>
public enum StepDevice
{
    /// <summary>Where the pipeline runs.</summary>
    Cpu,

    /// <summary>A GPU job.</summary>
    Gpu,
}

/// <summary>What to do when no GPU does a step.</summary>
public enum GpuFallback
{
    /// <summary>Fail the run.</summary>
    None,

    /// <summary>Run the step where the pipeline runs.</summary>
    Cpu,
}
