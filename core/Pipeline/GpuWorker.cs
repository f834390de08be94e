using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Pipeline;

/// <summary>What <see cref="GpuWorker"/> did.</summary>
public enum GpuOutcome
{
    /// <summary>The queue was empty.</summary>
    Nothing,

    /// <summary>A step was run and answered, well or ill.</summary>
    Answered,

    /// <summary>A message that cannot be run was set aside.</summary>
    SetAside,
}

/// <summary>
/// Takes one step from the GPU queue, runs the very same activity that the pipeline would, keeps the answer in the
/// store and sends it. Killed anywhere, its message becomes visible again and a successor finishes: an answer that is in
/// the store already is only sent.
/// </summary>
public static class GpuWorker
{
    /// <summary>Name of the queue of steps.</summary>
    public const string Steps = "gpu-steps";

    /// <summary>Name of the queue of answers.</summary>
    public const string Answers = "gpu-answers";

    /// <summary>Deliveries after which a message is set aside: its work kills whoever takes it.</summary>
    public const int MaxDeliveries = 5;

    /// <summary>Takes and runs one step.</summary>
    /// <param name="queue">The queue of steps.</param>
    /// <param name="run">Runs an activity: its name, its input.</param>
    /// <param name="store">Where answers are kept.</param>
    /// <param name="device">What it runs on, for the answer.</param>
    /// <param name="visibility">How long a message stays hidden should this process die.</param>
    /// <param name="cancellation">Stops the work; the message becomes visible again.</param>
    public static async Task<GpuOutcome> RunOneAsync(
        StepQueue queue, Func<string, JsonElement, CancellationToken, Task<JsonElement>> run, IArtifactStore store, string device, TimeSpan visibility, CancellationToken cancellation)
    {
        await using var message = await queue.TryTakeAsync(visibility, cancellation);
        if (message is null) return GpuOutcome.Nothing;
        if (Read(message.Body) is not { } step)
        {
            await message.SetAsideAsync("it is not a step of this pipeline", cancellation);
            return GpuOutcome.SetAside;
        }
        var path = RunNames.Event(step.Work, step.Event);
        GpuAnswer answer;
        if (await store.FindAsync(path, cancellation) is not null) answer = await store.ReadJsonAsync<GpuAnswer>(path, cancellation);
        else
        {
            var hopeless = message.Deliveries > MaxDeliveries;
            answer = hopeless
                ? new GpuAnswer(step.RunId, step.Event, null, $"{step.Activity} was begun {MaxDeliveries} times and never ended", false, device)
                : await AnswerAsync(step, run, device, message.Lost, cancellation);
            await store.WriteJsonAsync(path, answer, cancellation);
            if (hopeless)
            {
                await SendAsync(queue, step, answer, cancellation);
                await message.SetAsideAsync(answer.Error!, cancellation);
                return GpuOutcome.SetAside;
            }
        }
        await SendAsync(queue, step, answer, cancellation);
        await message.CompleteAsync(cancellation);
        return GpuOutcome.Answered;
    }

    private static async Task SendAsync(StepQueue queue, GpuStep step, GpuAnswer answer, CancellationToken cancellation)
    {
        if (step.AnswerTo is not { } to) return;
        var answers = queue.Sibling(to);
        await answers.SendAsync(JsonSerializer.Serialize(answer, Json.Options), cancellation);
    }

    private static async Task<GpuAnswer> AnswerAsync(
        GpuStep step, Func<string, JsonElement, CancellationToken, Task<JsonElement>> run, string device, CancellationToken lost, CancellationToken cancellation)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(lost, cancellation);
        try
        {
            return new GpuAnswer(step.RunId, step.Event, await run(step.Activity, step.Input, either.Token), null, false, device);
        }
        catch (Exception e) when (e is not OperationCanceledException || !either.IsCancellationRequested)
        {
            return new GpuAnswer(step.RunId, step.Event, null, e.Message, e is BadInputException, device);
        }
    }

    private static GpuStep? Read(string body)
    {
        try
        {
            var step = JsonSerializer.Deserialize<GpuStep>(body, Json.Options);
            return step is { Activity: { } name, Work: not null, Event: not null } && ActivityCatalog.All.ContainsKey(name) && StorePath.WhyUnsafe(step.Work) is null && StorePath.WhyUnsafe(step.Event) is null ? step : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
