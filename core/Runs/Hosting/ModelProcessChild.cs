using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// The child's side of <see cref="ModelProcess"/>: a request is a line on standard input, its answer a line on standard output. Limits
/// of memory and time are watched from within (<see cref="ChildLimits"/>), and the end of standard input says that the parent is gone:
/// either ends the process at once, whatever native code is doing.
/// </summary>
public static class ModelProcessChild
{
    internal const int OutOfMemory = 71,
        OutOfTime = 72,
        Orphaned = 73;

    // One that holds more gives it back by ending.
    private const long MostToWaitWith = 256L << 20,
        WaitingShare = 4;
    private static readonly PosixSignal[] ParentsDecision = [PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP];

    /// <summary>Serves activities until one fails or leaves much memory behind.</summary>
    /// <param name="folder">An empty folder to rehearse in before the first (<see cref="Rehearsal"/>), or null.</param>
    /// <returns>The exit code: 0 for any answer.</returns>
    public static async Task<int> ServeAsync(string? folder)
    {
        // A terminal sends these to both: the parent stops in order, and its end is ours.
        var ignored = ParentsDecision.Select(s => PosixSignalRegistration.Create(s, c => c.Cancel = true)).ToList();
        using var requests = new BlockingCollection<string>();
        ChildLimits.Watch(
            "parent",
            () =>
            {
                using var parent = new StreamReader(Console.OpenStandardInput(), Encoding.UTF8);
                while (parent.ReadLine() is { } line)
                    requests.Add(line);
                ChildLimits.End(Orphaned);
            }
        );
        var limits = new ChildLimits();
        if (folder is not null)
            await RehearseAsync(folder, limits);
        await using var output = Console.OpenStandardOutput();
        for (var waits = true; waits; )
        {
            var request = JsonSerializer.Deserialize<ModelRequest>(requests.Take(), Json.Options)!;
            limits.Begin(request.MemoryLimit);
            var answer = await AnswerAsync(request, limits);
            limits.Lift();
            waits = answer.Failure == ModelFailure.None && IsSmall(request.MemoryLimit);
            await output.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(answer with { Waits = waits }, Json.Options));
            await output.WriteAsync("\n"u8.ToArray());
        }
        foreach (var registration in ignored)
            registration.Dispose();
        return 0;
    }

    private static bool IsSmall(long limit)
    {
        var most = Math.Min(MostToWaitWith, limit / WaitingShare);
        if (Environment.WorkingSet <= most)
            return true;
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        return Environment.WorkingSet <= most;
    }

    // As a request that came by standard input; one that fails ends the process, and the parent starts another.
    private static async Task RehearseAsync(string folder, ChildLimits limits)
    {
        var line = JsonSerializer.Serialize(await Rehearsal.PrepareAsync(folder, CancellationToken.None), Json.Options);
        var answer = await AnswerAsync(JsonSerializer.Deserialize<ModelRequest>(line, Json.Options)!, limits);
        if (answer.Failure != ModelFailure.None)
            throw new InvalidOperationException(answer.Error);
        JsonSerializer.Serialize(answer, Json.Options);
        limits.Lift();
        Directory.Delete(folder, recursive: true);
    }

    private static async Task<ModelAnswer> AnswerAsync(ModelRequest request, ChildLimits limits)
    {
        RunRequest? run = request.Input.TryGetProperty("request", out var r) ? r.Deserialize<RunRequest>(Json.Options) : null;
        var store = request.Store.Open();
        try
        {
            if (!ActivityCatalog.All.TryGetValue(request.Activity, out var activity) || !activity.RunsModels)
                throw new InvalidOperationException($"The activity '{request.Activity}' does not run in a process of its own.");
            if (run is not null)
                limits.EndAfter(await TimeOfAsync(store, run, request.Activity));
            try
            {
                // Half of what it may take: the rest is the runtime's and what nobody foresees.
                var context = new ActivityContext(store, new MemoryGate(request.MemoryLimit / 2));
                return new ModelAnswer(await activity.RunAsync(request.Input, context, CancellationToken.None), ModelFailure.None, null);
            }
            catch (OnnxRuntimeException e) when (run is not null)
            {
                throw (Exception?)await OriginalModel.WhyNotAsync(store, run, CancellationToken.None)
                    ?? new InvalidOperationException(
                        $"ONNX Runtime refuses a model that was made from {run.Model}: {RuntimeMessage.Of(e)}",
                        e
                    );
            }
        }
        catch (Exception e)
        {
            var model = run?.Model ?? "the model";
            return e switch
            {
                BadInputException => new ModelAnswer(null, ModelFailure.BadInput, e.Message),
                DamagedWorkException => new ModelAnswer(null, ModelFailure.Damaged, e.Message),
                TimeoutException => new ModelAnswer(
                    null,
                    ModelFailure.Limit,
                    $"{model}: {e.Message.TrimEnd('.')}; drop a data.npz with fewer or smaller inputs."
                ),
                OutOfMemoryException => new ModelAnswer(
                    null,
                    ModelFailure.Limit,
                    $"{model}: running the model took more memory than there is; allow more with --memory, or drop a "
                        + "data.npz with smaller inputs."
                ),
                _ when Retries.MayPass(e) => new ModelAnswer(null, ModelFailure.Transient, e.Message),
                _ => new ModelAnswer(null, ModelFailure.Failed, $"{e.GetType().Name}: {e.Message}"),
            };
        }
    }

    // Comparing models gets the recipe's time; steps that run a model for many layers get three times that.
    private static async Task<TimeSpan> TimeOfAsync(IArtifactStore store, RunRequest run, string activity)
    {
        var minutes = (await Inspect.RecipeOf(store, run, CancellationToken.None)).Evaluate.Timeout;
        return TimeSpan.FromMinutes(activity == nameof(Evaluate) ? minutes : Math.Min(3 * minutes, Retries.ActivityTimeout.TotalMinutes));
    }
}
