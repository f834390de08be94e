using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using Serverless.Core.Execution;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// Runs activities in child processes: native code on a hostile model may crash, hang or take all memory, and then
/// only the child dies. The child is the host's own program, told by its first argument to serve activities. It watches
/// its own limits and ends with its parent (<see cref="ModelProcessChild"/>).
/// </summary>
public sealed class ModelProcess : IDisposable
{
    /// <summary>The first argument of a child.</summary>
    public const string Command = "run-activity";

    private const long LeastShare = 512L << 20,
        MuchGarbage = 64L << 20,
        MuchHeld = 160L << 20;
    private const int Killed = 9,
        FirstSignal = 128;
    private static readonly int[] Crashes = [4, 6, 7, 8, 11];
    private static readonly TimeSpan Sampling = TimeSpan.FromMilliseconds(50);
    private readonly StoreSpec spec;
    private readonly MemoryGate room;
    private readonly ModelChildren children;
    private readonly Peak peak = new();

    /// <summary>Starts nothing yet.</summary>
    /// <param name="spec">The store.</param>
    /// <param name="room">Memory that children and the host's own activities may take together.</param>
    public ModelProcess(StoreSpec spec, MemoryGate room)
    {
        (this.spec, this.room) = (spec, room);
        children = new ModelChildren(folder => new ModelChild(Program ?? OwnProgram(folder), folder));
    }

    /// <summary>The most memory that this process and its children held together, in resident bytes.</summary>
    public long PeakBytes => peak.Value;

    /// <summary>How long a child may take before it is ended from here; it ends itself before.</summary>
    internal TimeSpan Patience { get; init; } = Retries.ActivityTimeout + TimeSpan.FromMinutes(1);

    /// <summary>The program of the child with its streams redirected, or null for the host's own.</summary>
    internal ProcessStartInfo? Program { get; init; }

    /// <summary>Starts a child for the first activity to come, of any run, where there is a folder to rehearse in.</summary>
    public void Begin() => children.Begin();

    /// <summary>Ends the children that wait.</summary>
    public void Dispose() => children.Dispose();

    /// <summary>Runs an activity.</summary>
    /// <exception cref="BadInputException">The model is wrong, or crashes ONNX Runtime.</exception>
    /// <exception cref="ModelLimitException">Running it took too much memory or time.</exception>
    /// <exception cref="ModelKilledException">The process was ended from outside.</exception>
    /// <exception cref="DamagedWorkException">An object of the work is damaged.</exception>
    public async Task<TOutput> RunAsync<TInput, TOutput>(string activity, TInput input, CancellationToken cancellation) =>
        (await RunAsync(activity, JsonSerializer.SerializeToElement(input, Json.Options), cancellation)).Deserialize<TOutput>(
            Json.Options
        )!;

    /// <summary>
    /// Runs an activity, JSON to JSON. One that was ended by a signal or by its memory limit is run once more, with all the memory to
    /// itself.
    /// </summary>
    /// <inheritdoc cref="RunAsync{TInput,TOutput}" path="/exception"/>
    public async Task<JsonElement> RunAsync(string activity, JsonElement input, CancellationToken cancellation)
    {
        // A child runs samples on all processors: a few at a time are enough, while each gets enough to load a model.
        var share = Math.Max(room.Budget / Math.Max(1, Environment.ProcessorCount / 2), Math.Min(room.Budget, LeastShare));
        var ended = await OnceAsync(activity, input, share, cancellation);
        if (ended.Answer is null && ended.ExitCode != ModelProcessChild.OutOfTime)
            ended = await OnceAsync(activity, input, room.Budget, cancellation);
        if (ended.Answer is not { } answer)
            throw Why(ended, Model(input));
        return answer.Output ?? throw answer.ToException();
    }

    private static Exception Why(Ended ended, string model) =>
        ended.ExitCode switch
        {
            ModelProcessChild.OutOfMemory => new ModelLimitException(
                $"{model}: running the model took more than {ended.Limit >> 20} MB, the part of --memory that is left for it; "
                    + "allow more with --memory, or drop a data.npz with smaller inputs."
            ),
            ModelProcessChild.OutOfTime => new ModelLimitException(
                $"{model}: running the model took longer than the recipe allows; "
                    + "raise 'evaluate: {timeout: MINUTES}', or drop a data.npz with fewer or smaller inputs."
            ),
            FirstSignal + Killed => new ModelKilledException(
                $"{model}: the process that runs the model was killed twice, most likely because the machine ran out of memory; "
                    + "free some or lower --memory, then the same command goes on from here."
            ),
            var code when Crashes.Contains(code - FirstSignal) => new BadInputException(
                $"{model}: ONNX Runtime crashed (signal {code - FirstSignal}) while running the model; "
                    + "check it with onnx.checker and export it again."
            ),
            > FirstSignal and var code => new ModelKilledException(
                $"{model}: the process that runs the model was ended twice by signal {code - FirstSignal}; the same "
                    + "command goes on from here."
            ),
            _ => new InvalidOperationException(
                ended.Error.Length > 0 ? ended.Error : $"The process that runs the model ended with {ended.ExitCode}."
            ),
        };

    private async Task<Ended> OnceAsync(string activity, JsonElement input, long limit, CancellationToken cancellation)
    {
        using var held = await room.EnterAsync(limit, cancellation);
        // Nothing allocates here while a child works, so that nothing would be collected either.
        if (GC.GetTotalMemory(forceFullCollection: false) > MuchGarbage || Environment.WorkingSet > MuchHeld)
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            NativeHeap.Trim();
        }
        var child = await children.TakeAsync(Of(input, "work"), cancellation);
        var ended = new Ended(null, ModelProcessChild.OutOfTime, "", limit);
        try
        {
            var request = JsonSerializer.Serialize(new ModelRequest(activity, input, spec, limit), Json.Options);
            // Null when it did not even end itself, as one that is frozen.
            if (await WatchAsync(child, child.AskAsync(request, cancellation), cancellation) is { } line)
                ended =
                    line.Length > 0
                        ? ended with
                        {
                            Answer = JsonSerializer.Deserialize<ModelAnswer>(line, Json.Options),
                            ExitCode = 0,
                        }
                        : ended with
                        {
                            ExitCode = await child.ExitCodeAsync(cancellation),
                            Error = await child.ErrorAsync(),
                        };
            return ended;
        }
        finally
        {
            children.Return(child, keep: ended.Answer is { Waits: true });
        }
    }

    // Time counts while this process runs too.
    private async Task<string?> WatchAsync(ModelChild child, Task<string> answer, CancellationToken cancellation)
    {
        for (var left = Patience; await Task.WhenAny(answer, Task.Delay(Sampling, cancellation)) != answer; left -= Sampling)
        {
            cancellation.ThrowIfCancellationRequested();
            if (left <= TimeSpan.Zero)
                return null;
            peak.See(Environment.WorkingSet + children.ResidentBytes());
        }
        return await answer;
    }

    private static string Model(JsonElement input) => Of(input, "model") ?? "the model";

    private static string? Of(JsonElement input, string property) =>
        input.TryGetProperty("request", out var request) && request.TryGetProperty(property, out var value) ? value.GetString() : null;

    private static ProcessStartInfo OwnProgram(string? folder)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { UseShellExecute = false };
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet")
            start.ArgumentList.Add(Assembly.GetEntryAssembly()!.Location);
        start.ArgumentList.Add(Command);
        if (folder is not null)
            start.ArgumentList.Add(folder);
        // A child that is killed could not take its debugger's sockets away.
        start.Environment.TryAdd("DOTNET_EnableDiagnostics", "0");
        // The child's arena would otherwise keep a gigabyte of freed blocks per thread.
        start.Environment["MALLOC_ARENA_MAX"] = "2";
        // Freed weights of one session go back before the next is loaded.
        start.Environment["MALLOC_MMAP_THRESHOLD_"] = start.Environment["MALLOC_TRIM_THRESHOLD_"] = "4194304";
        return start;
    }

    private sealed record Ended(ModelAnswer? Answer, int ExitCode, string Error, long Limit);
}
