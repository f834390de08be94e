using System.Text;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

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

    private const long Largest = 16 << 20;

    /// <summary>Takes and runs one step.</summary>
    /// <param name="queue">The queue of steps.</param>
    /// <param name="run">Runs an activity: its name, its input.</param>
    /// <param name="store">Where answers are kept.</param>
    /// <param name="device">What it runs on, for the answer.</param>
    /// <param name="visibility">How long a message stays hidden should this process die.</param>
    /// <param name="cancellation">Stops the work; the message becomes visible again.</param>
    public static async Task<GpuOutcome> RunOneAsync(
        StepQueue queue,
        Func<string, JsonElement, CancellationToken, Task<JsonElement>> run,
        IArtifactStore store,
        string device,
        TimeSpan visibility,
        CancellationToken cancellation
    )
    {
        await using var message = await queue.TryTakeAsync(visibility, cancellation);
        if (message is null)
            return GpuOutcome.Nothing;
        var (step, why) = message.IsBase64 ? GpuStep.Read(message.Body) : (null, "it is not Base64");
        if (step is null)
        {
            await message.SetAsideAsync($"it is not a step of this pipeline: {why}", cancellation);
            return GpuOutcome.SetAside;
        }
        if (message.Deliveries > MaxDeliveries)
        {
            await message.SetAsideAsync(await GiveUpAsync(queue, step, store, device, cancellation), cancellation);
            return GpuOutcome.SetAside;
        }
        var path = RunPaths.Event(step.Work, step.Event);
        if (await KeptAsync(store, path, cancellation) is not { } answer)
        {
            answer = await AnswerAsync(step, run, device, message.Lost, cancellation);
            await store.WriteJsonAsync(path, answer, cancellation);
        }
        await SendAsync(queue, step, answer, cancellation);
        await message.CompleteAsync(cancellation);
        return GpuOutcome.Answered;
    }

    // Says that the step failed, as far as that can be said: writing or sending the answer may be what fails each time.
    private static async Task<string> GiveUpAsync(
        StepQueue queue,
        GpuStep step,
        IArtifactStore store,
        string device,
        CancellationToken cancellation
    )
    {
        var why = $"{step.Activity} was begun {MaxDeliveries} times and never ended";
        var path = RunPaths.Event(step.Work, step.Event);
        try
        {
            if (await KeptAsync(store, path, cancellation) is not { } answer)
            {
                answer = GpuAnswer.Failed(step, why, false, device);
                await store.WriteJsonAsync(path, answer, cancellation);
            }
            await SendAsync(queue, step, answer, cancellation);
            return why;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return $"{why}; its answer could not be kept or sent: {SecretText.Cut(e.Message.Split('\n')[0])}";
        }
    }

    // One that cannot be read is no answer: it is made again.
    private static async Task<GpuAnswer?> KeptAsync(IArtifactStore store, string path, CancellationToken cancellation) =>
        await store.FindAsync(path, cancellation) is null
            ? null
            : GpuAnswer.Read(Encoding.UTF8.GetString(await store.ReadBytesAsync(path, Largest, cancellation)));

    private static async Task SendAsync(StepQueue queue, GpuStep step, GpuAnswer answer, CancellationToken cancellation)
    {
        if (step.AnswerTo is { } to)
            await queue.Sibling(to).SendAsync(JsonSerializer.Serialize(answer, Json.Options), cancellation);
    }

    private static async Task<GpuAnswer> AnswerAsync(
        GpuStep step,
        Func<string, JsonElement, CancellationToken, Task<JsonElement>> run,
        string device,
        CancellationToken lost,
        CancellationToken cancellation
    )
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(lost, cancellation);
        try
        {
            return new GpuAnswer(step.RunId, step.Event, await run(step.Activity, step.Input, either.Token), null, false, device);
        }
        catch (Exception e) when (e is not OperationCanceledException || !either.IsCancellationRequested)
        {
            return GpuAnswer.Failed(step, e.Message, e is BadInputException, device);
        }
    }
}
