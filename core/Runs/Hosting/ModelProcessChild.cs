using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// The child's side of <see cref="ModelProcess"/>: one request on standard input, one answer on standard output. Limits of memory
/// and time are watched from within, and the end of standard input says that the parent is gone: either ends the process at once,
/// whatever native code is doing.
/// </summary>
public static partial class ModelProcessChild
{
    internal const int OutOfMemory = 71,
        OutOfTime = 72,
        Orphaned = 73;
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);
    private static readonly PosixSignal[] ParentsDecision = [PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP];

    /// <summary>Serves one activity.</summary>
    /// <returns>The exit code: 0 for any answer.</returns>
    public static async Task<int> ServeAsync()
    {
        // A terminal sends these to both: the parent stops in order, and its end is ours.
        var ignored = ParentsDecision.Select(s => PosixSignalRegistration.Create(s, c => c.Cancel = true)).ToList();
        using var parent = new StreamReader(Console.OpenStandardInput(), Encoding.UTF8);
        if (await parent.ReadLineAsync() is not { } line)
            return Orphaned;
        var request = JsonSerializer.Deserialize<ModelRequest>(line, Json.Options)!;
        Start(
            "parent",
            () =>
            {
                while (parent.Read() >= 0) { }
                End(Orphaned);
            }
        );
        Start(
            "memory",
            () =>
            {
                while (Environment.WorkingSet <= request.MemoryLimit)
                    Thread.Sleep(Poll);
                End(OutOfMemory);
            }
        );
        var answer = JsonSerializer.Serialize(await AnswerAsync(request), Json.Options);
        await using var output = Console.OpenStandardOutput();
        await output.WriteAsync(Encoding.UTF8.GetBytes(answer));
        foreach (var registration in ignored)
            registration.Dispose();
        return 0;
    }

    private static async Task<ModelAnswer> AnswerAsync(ModelRequest request)
    {
        RunRequest? run = request.Input.TryGetProperty("request", out var r) ? r.Deserialize<RunRequest>(Json.Options) : null;
        var store = request.Store.Open();
        try
        {
            if (!ActivityCatalog.All.TryGetValue(request.Activity, out var activity) || !activity.RunsModels)
                throw new InvalidOperationException($"The activity '{request.Activity}' does not run in a process of its own.");
            if (run is not null)
                EndAfter(await TimeOfAsync(store, run, request.Activity));
            try
            {
                var context = new ActivityContext(store, new MemoryGate(long.MaxValue));
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

    private static void EndAfter(TimeSpan limit)
    {
        var clock = Stopwatch.StartNew();
        Start(
            "time",
            () =>
            {
                while (clock.Elapsed < limit)
                    Thread.Sleep(Poll);
                End(OutOfTime);
            }
        );
    }

    private static void Start(string name, ThreadStart watch) => new Thread(watch) { IsBackground = true, Name = $"watch {name}" }.Start();

    // Without finalizers and atexit handlers, which wait for native threads.
    private static void End(int code)
    {
        if (OperatingSystem.IsWindows())
            Environment.Exit(code);
        ExitNow(code);
    }

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void ExitNow(int code);
}
