using System.Collections.Concurrent;
using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// Runs an activity in a child process: native code on a hostile model may crash, hang or take all memory, and then
/// only the child dies. The child is the host's own program, told by its first argument to serve one activity. It watches
/// its own limits and ends with its parent (<see cref="ModelProcessChild"/>).
/// </summary>
/// <param name="spec">The store.</param>
/// <param name="room">Memory that children and the host's own activities may take together.</param>
public sealed class ModelProcess(StoreSpec spec, MemoryGate room)
{
    /// <summary>The first argument of a child.</summary>
    public const string Command = "run-activity";

    private const long LeastShare = 512L << 20;
    private const int Killed = 9,
        FirstSignal = 128;
    private static readonly int[] Crashes = [4, 6, 7, 8, 11];
    private static readonly TimeSpan Sampling = TimeSpan.FromMilliseconds(50);
    private readonly ConcurrentDictionary<int, long> resident = [];
    private long peak;

    /// <summary>The most memory that this process and its children held together, in resident bytes.</summary>
    public long PeakBytes => Interlocked.Read(ref peak);

    /// <summary>How long a child may take before it is ended from here; it ends itself before.</summary>
    internal TimeSpan Patience { get; init; } = Retries.ActivityTimeout + TimeSpan.FromMinutes(1);

    /// <summary>The program of the child with its streams redirected, or null for the host's own.</summary>
    internal ProcessStartInfo? Program { get; init; }

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
        // As many at a time as there are processors, while each gets enough to load a model.
        var share = Math.Max(room.Budget / Environment.ProcessorCount, Math.Min(room.Budget, LeastShare));
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
        using var child =
            Process.Start(Program ?? OwnProgram()) ?? throw new InvalidOperationException("The process that runs models did not start.");
        try
        {
            var (output, error) = (child.StandardOutput.ReadToEndAsync(cancellation), child.StandardError.ReadToEndAsync(cancellation));
            await TellAsync(child, new ModelRequest(activity, input, spec, limit), cancellation);
            if (!await WatchAsync(child, cancellation))
                return new Ended(null, ModelProcessChild.OutOfTime, "", limit);
            var answer = child.ExitCode == 0 ? JsonSerializer.Deserialize<ModelAnswer>(await output, Json.Options) : null;
            return new Ended(answer, child.ExitCode, (await error).Trim(), limit);
        }
        finally
        {
            if (!child.HasExited)
                child.Kill(entireProcessTree: true);
            resident.TryRemove(child.Id, out _);
        }
    }

    // Standard input stays open: its end tells the child that this process is gone.
    private static async Task TellAsync(Process child, ModelRequest request, CancellationToken cancellation)
    {
        try
        {
            await child.StandardInput.WriteLineAsync(JsonSerializer.Serialize(request, Json.Options).AsMemory(), cancellation);
            await child.StandardInput.FlushAsync(cancellation);
        }
        catch (IOException) when (child.WaitForExit(TimeSpan.FromSeconds(1)))
        {
            // It ended before it read: its exit code says how.
        }
    }

    // False when it did not even end itself, as one that is frozen: time counts while this process runs too.
    private async Task<bool> WatchAsync(Process child, CancellationToken cancellation)
    {
        var exited = child.WaitForExitAsync(cancellation);
        for (var left = Patience; await Task.WhenAny(exited, Task.Delay(Sampling, cancellation)) != exited; left -= Sampling)
        {
            cancellation.ThrowIfCancellationRequested();
            if (left <= TimeSpan.Zero)
                return false;
            resident[child.Id] = Resident(child);
            var together = Environment.WorkingSet + resident.Values.Sum();
            for (var before = PeakBytes; together > before; before = PeakBytes)
                if (Interlocked.CompareExchange(ref peak, together, before) == before)
                    break;
        }
        await exited;
        return true;
    }

    private static long Resident(Process child)
    {
        try
        {
            child.Refresh();
            return child.WorkingSet64;
        }
        catch (InvalidOperationException)
        {
            // It ended just now.
            return 0;
        }
    }

    private static string Model(JsonElement input) =>
        input.TryGetProperty("request", out var request) && request.TryGetProperty("model", out var model)
            ? model.GetString()!
            : "the model";

    private static ProcessStartInfo OwnProgram()
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { UseShellExecute = false };
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet")
            start.ArgumentList.Add(Assembly.GetEntryAssembly()!.Location);
        start.ArgumentList.Add(Command);
        // The child's arena would otherwise keep a gigabyte of freed blocks per thread.
        start.Environment["MALLOC_ARENA_MAX"] = "2";
        // Freed weights of one session go back before the next is loaded.
        start.Environment["MALLOC_MMAP_THRESHOLD_"] = start.Environment["MALLOC_TRIM_THRESHOLD_"] = "4194304";
        return start;
    }

    private sealed record Ended(ModelAnswer? Answer, int ExitCode, string Error, long Limit);
}
