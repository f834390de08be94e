using System.Text.Json;
using Serverless.Core.Recipes;

namespace Serverless.Core.Pipeline;

/// <summary>One step for a GPU, as it lies in the queue.</summary>
/// <param name="RunId">The orchestration that waits for the answer.</param>
/// <param name="Work">Its run's work folder, where the answer is kept.</param>
/// <param name="Event">The event that the answer raises; the same for the same work.</param>
/// <param name="Activity">The activity.</param>
/// <param name="Input">Its input record.</param>
/// <param name="AnswerTo">Queue that the answer is sent to as well, or null.</param>
public sealed record GpuStep(string RunId, string Work, string Event, string Activity, JsonElement Input, string? AnswerTo);

/// <summary>The answer to a step: its output, or why there is none.</summary>
/// <param name="RunId">The orchestration that waits.</param>
/// <param name="Event">The event to raise.</param>
/// <param name="Output">The activity's output record, or null when it failed.</param>
/// <param name="Error">Why it failed, or null.</param>
/// <param name="BadInput">The input is wrong: trying again is no use.</param>
/// <param name="Device">What it ran on: <c>cuda</c> or <c>cpu</c>.</param>
public sealed record GpuAnswer(string RunId, string Event, JsonElement? Output, string? Error, bool BadInput, string Device);

/// <summary>Calls activities where their step is placed: here, or by way of the GPU queue.</summary>
public static class GpuCall
{
    /// <summary>How often a step is sent before it is given up.</summary>
    public const int MaxSends = 3;

    /// <summary>Runs an activity.</summary>
    /// <param name="host">The orchestration.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="name">A name for the call, unique in the orchestration.</param>
    /// <param name="input">The activity's input.</param>
    /// <param name="placement">Where it runs.</param>
    /// <exception cref="BadInputException">The input is wrong.</exception>
    /// <exception cref="TimeoutException">No GPU did it, and the recipe allows no fallback.</exception>
    public static async Task<TOutput> RunAsync<TActivity, TInput, TOutput>(IOrchestration host, string work, string name, TInput input, StepPlacement placement)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull
    {
        if (placement.Device == StepDevice.Cpu) return await host.CallAsync<TActivity, TInput, TOutput>(input);
        var step = new GpuStep(host.Id, work, $"gpu-{name}", typeof(TActivity).Name, JsonSerializer.SerializeToElement(input, Json.Options), null);
        string? why = null;
        for (var send = 1; send <= MaxSends; send++)
        {
            var sent = await host.CallAsync<SendGpuStep, GpuSend, GpuSent>(new GpuSend(step with { Event = $"gpu-{name}-{send}" }));
            if (!sent.HasQueue) return await host.CallAsync<TActivity, TInput, TOutput>(input);
            var json = await host.WaitForEventAsync($"gpu-{name}-{send}", TimeSpan.FromMinutes(placement.Timeout));
            var answer = json is null ? null : JsonSerializer.Deserialize<GpuAnswer>(json, Json.Options)!;
            if (answer?.Output is { } output) return output.Deserialize<TOutput>(Json.Options)!;
            if (answer is { BadInput: true }) throw new BadInputException(answer.Error!);
            why = answer?.Error ?? $"no answer within {placement.Timeout} minutes";
            host.Log($"{name} on a GPU, attempt {send} of {MaxSends}: {why}");
        }
        if (placement.Fallback == GpuFallback.Cpu) return await host.CallAsync<TActivity, TInput, TOutput>(input);
        throw new TimeoutException($"No GPU has done {name} in {MaxSends} attempts ({why}); allow 'fallback: cpu' in the recipe, or look at the GPU job.");
    }
}

/// <summary>Input of <see cref="SendGpuStep"/>.</summary>
public sealed record GpuSend(GpuStep Step);

/// <summary>Whether the host has a GPU queue; without one, nothing was sent.</summary>
public sealed record GpuSent(bool HasQueue);

/// <summary>Puts a step into the GPU queue.</summary>
public sealed class SendGpuStep : Activity<GpuSend, GpuSent>
{
    /// <inheritdoc/>
    public override async Task<GpuSent> RunAsync(GpuSend input, ActivityContext context, CancellationToken cancellation)
    {
        if (context.GpuSteps is not { } queue) return new GpuSent(false);
        await queue.SendAsync(JsonSerializer.Serialize(input.Step with { AnswerTo = context.GpuAnswers }, Json.Options), cancellation);
        return new GpuSent(true);
    }
}
