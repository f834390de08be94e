using System.Text.Json;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// The input of an activity that a recipe may place on a GPU (<see cref="GpuCall"/>): only such an activity is run for a message.
/// </summary>
public interface IPlaceable
{
    /// <summary>Store folders that the activity reads and writes.</summary>
    IReadOnlyList<string> Folders { get; }
}

/// <summary>One step for a GPU, as it lies in the queue.</summary>
/// <param name="RunId">The orchestration that waits for the answer.</param>
/// <param name="Work">Its run's work folder, where the answer is kept.</param>
/// <param name="Event">The event that the answer raises; the same for the same work.</param>
/// <param name="Activity">The activity.</param>
/// <param name="Input">Its input record.</param>
/// <param name="AnswerTo">Queue that the answer is sent to as well, or null.</param>
public sealed record GpuStep(string RunId, string Work, string Event, string Activity, JsonElement Input, string? AnswerTo)
{
    private const string Prefix = "work/";

    /// <summary>Reads a message.</summary>
    /// <returns>
    /// The step, or why the message is none: it must name a placeable activity, whose folders lie under <c>work/</c>, and a queue that
    /// can be.
    /// </returns>
    public static (GpuStep? Step, string? Why) Read(string body)
    {
        try
        {
            var step = JsonSerializer.Deserialize<GpuStep>(body, Json.Options);
            if (step is not { RunId.Length: > 0, Work: not null, Event: not null, Activity: not null })
                return (null, "something is missing");
            if (!ActivityCatalog.All.TryGetValue(step.Activity, out var activity) || !activity.IsPlaceable)
                return (null, "its activity is none that runs on a GPU");
            if (step.AnswerTo is { } to && !StepQueue.IsName(to))
                return (null, "'answerTo' cannot be the name of a queue");
            if (StorePath.WhyUnsafe(step.Event) is not null || step.Event.Contains('/'))
                return (null, "'event' cannot be the name of a file");
            if (step.Input.Deserialize(activity.Input, Json.Options) is not IPlaceable input)
                return (null, "its input is missing");
            return input.Folders.Append(step.Work).All(IsWork) ? (step, null) : (null, $"its folders are not under {Prefix}");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return (null, "it is not JSON of the right shape");
        }
    }

    private static bool IsWork(string? folder) =>
        folder?.StartsWith(Prefix, StringComparison.Ordinal) == true && StorePath.WhyUnsafe(folder) is null;
}

/// <summary>The answer to a step: its output, or why there is none.</summary>
/// <param name="RunId">The orchestration that waits.</param>
/// <param name="Event">The event to raise.</param>
/// <param name="Output">The activity's output record, or null when it failed.</param>
/// <param name="Error">Why it failed, or null.</param>
/// <param name="BadInput">The input is wrong: trying again is no use.</param>
/// <param name="Device">What it ran on: <c>cuda</c> or <c>cpu</c>.</param>
public sealed record GpuAnswer(string RunId, string Event, JsonElement? Output, string? Error, bool BadInput, string Device)
{
    private const int LongestError = 2000;

    /// <summary>The answer of a step that failed.</summary>
    public static GpuAnswer Failed(GpuStep step, string error, bool badInput, string device) =>
        new(step.RunId, step.Event, null, error.Length <= LongestError ? error : error[..LongestError] + "…", badInput, device);

    /// <summary>Reads a message; null when it is no answer.</summary>
    public static GpuAnswer? Read(string body)
    {
        try
        {
            var answer = JsonSerializer.Deserialize<GpuAnswer>(body, Json.Options);
            return answer is { RunId.Length: > 0, Event.Length: > 0 } and ({ Output: not null } or { Error: not null }) ? answer : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    /// <summary>The activity's output; null when there is none of the right shape.</summary>
    public TOutput? OutputAs<TOutput>()
        where TOutput : class
    {
        try
        {
            return Output is { ValueKind: JsonValueKind.Object } output ? output.Deserialize<TOutput>(Json.Options) : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }
}

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
    public static async Task<TOutput> RunAsync<TActivity, TInput, TOutput>(
        IOrchestration host,
        string work,
        string name,
        TInput input,
        StepPlacement placement
    )
        where TActivity : Activity<TInput, TOutput>
        where TInput : IPlaceable
        where TOutput : class
    {
        if (placement.Device == StepDevice.Cpu)
            return await host.CallAsync<TActivity, TInput, TOutput>(input);
        var step = new GpuStep(
            host.Id,
            work,
            $"gpu-{name}",
            typeof(TActivity).Name,
            JsonSerializer.SerializeToElement(input, Json.Options),
            null
        );
        string? why = null;
        for (var send = 1; send <= MaxSends; send++)
        {
            var sent = await host.CallAsync<SendGpuStep, GpuSend, GpuSent>(new GpuSend(step with { Event = $"gpu-{name}-{send}" }));
            if (!sent.HasQueue)
                return await host.CallAsync<TActivity, TInput, TOutput>(input);
            var json = await host.WaitForEventAsync($"gpu-{name}-{send}", TimeSpan.FromMinutes(placement.Timeout));
            var answer = json is null ? null : GpuAnswer.Read(json);
            if (answer?.OutputAs<TOutput>() is { } output)
                return output;
            if (answer is { BadInput: true, Error: { } error })
                throw new BadInputException(error);
            why = json is null ? $"no answer within {placement.Timeout} minutes" : answer?.Error ?? "its answer cannot be read";
            host.Log($"{name} on a GPU, attempt {send} of {MaxSends}: {why}");
        }
        if (placement.Fallback == GpuFallback.Cpu)
            return await host.CallAsync<TActivity, TInput, TOutput>(input);
        throw new TimeoutException(
            $"No GPU has done {name} in {MaxSends} attempts ({why}); allow 'fallback: cpu' in the recipe, or look at the GPU job."
        );
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
        if (context.GpuSteps is not { } queue)
            return new GpuSent(false);
        await queue.SendAsync(JsonSerializer.Serialize(input.Step with { AnswerTo = context.GpuAnswers }, Json.Options), cancellation);
        return new GpuSent(true);
    }
}
