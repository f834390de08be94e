using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Pipeline;

/// <summary>
/// Runs an activity in a child process: native code on a hostile model may crash, hang or take all memory, and then
/// only the child dies. The child is the host's own program, told by its first argument to serve one activity.
/// </summary>
/// <param name="spec">The store.</param>
/// <param name="memoryLimit">Resident bytes at which the child is stopped.</param>
/// <param name="timeLimit">Time after which it is stopped.</param>
public sealed class ModelProcess(StoreSpec spec, long memoryLimit, TimeSpan timeLimit)
{
    /// <summary>The first argument of a child.</summary>
    public const string Command = "run-activity";

    private const int BadInput = 2, Failed = 1;
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(10);

    // On standard input, where other users of the machine cannot read a connection string.
    private sealed record Request(string Activity, JsonElement Input, StoreSpec Store);

    /// <summary>Runs an activity.</summary>
    /// <exception cref="BadInputException">The model is wrong, or its run crashed or went over a limit.</exception>
    public async Task<TOutput> RunAsync<TInput, TOutput>(string activity, TInput input, CancellationToken cancellation) =>
        (await RunAsync(activity, JsonSerializer.SerializeToElement(input, Json.Options), cancellation)).Deserialize<TOutput>(Json.Options)!;

    /// <summary>Runs an activity, JSON to JSON.</summary>
    /// <exception cref="BadInputException">The model is wrong, or its run crashed or went over a limit.</exception>
    public async Task<JsonElement> RunAsync(string activity, JsonElement input, CancellationToken cancellation)
    {
        using var child = Process.Start(Program()) ?? throw new InvalidOperationException("The evaluation process did not start.");
        try
        {
            var (output, error) = (child.StandardOutput.ReadToEndAsync(cancellation), child.StandardError.ReadToEndAsync(cancellation));
            await child.StandardInput.WriteAsync(JsonSerializer.Serialize(new Request(activity, input, spec), Json.Options).AsMemory(), cancellation);
            child.StandardInput.Close();
            var stopped = await WatchAsync(child, cancellation);
            var (answer, message) = (await output, (await error).Trim());
            if (stopped is not null) throw new BadInputException($"{Model(input)}: running the model {stopped}.");
            if (child.ExitCode == BadInput) throw new BadInputException(message);
            if (child.ExitCode != 0 && answer.Length == 0 && child.ExitCode > 128)
                throw new BadInputException($"{Model(input)}: ONNX Runtime crashed (signal {child.ExitCode - 128}) while running the model; check it with onnx.checker and export it again.");
            if (child.ExitCode != 0) throw new InvalidOperationException(message.Length > 0 ? message : $"The evaluation process ended with {child.ExitCode}.");
            return JsonDocument.Parse(answer).RootElement;
        }
        finally
        {
            if (!child.HasExited) child.Kill(entireProcessTree: true);
        }
    }

    /// <summary>The child's side: one request on standard input, one answer on standard output.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> ServeAsync(CancellationToken cancellation)
    {
        try
        {
            var request = JsonSerializer.Deserialize<Request>(await Console.In.ReadToEndAsync(cancellation), Json.Options)!;
            if (!ActivityCatalog.All.TryGetValue(request.Activity, out var activity) || !activity.RunsModels)
                throw new InvalidOperationException($"The activity '{request.Activity}' does not run in a process of its own.");
            var context = new ActivityContext(request.Store.Open(), new MemoryGate(long.MaxValue));
            Console.Out.Write((await activity.RunAsync(request.Input, context, cancellation)).GetRawText());
            return 0;
        }
        catch (BadInputException e)
        {
            Console.Error.WriteLine(e.Message);
            return BadInput;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Console.Error.WriteLine($"{e.GetType().Name}: {e.Message}");
            return Failed;
        }
    }

    private async Task<string?> WatchAsync(Process child, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var exited = child.WaitForExitAsync(cancellation);
        while (await Task.WhenAny(exited, Task.Delay(PollInterval, cancellation)) != exited)
        {
            cancellation.ThrowIfCancellationRequested();
            string? why = null;
            if (Resident(child) > memoryLimit)
                why = $"took more than {memoryLimit >> 20} MB; allow more with --memory, or drop a data.npz with smaller inputs";
            else if (clock.Elapsed > timeLimit)
                why = $"took more than {timeLimit.TotalMinutes:0.#} minutes; drop a data.npz with fewer or smaller inputs";
            if (why is null) continue;
            child.Kill(entireProcessTree: true);
            await child.WaitForExitAsync(CancellationToken.None);
            return why;
        }
        await exited;
        return null;
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
        input.TryGetProperty("request", out var request) && request.TryGetProperty("model", out var model) ? model.GetString()! : "the model";

    private static ProcessStartInfo Program()
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet") start.ArgumentList.Add(Assembly.GetEntryAssembly()!.Location);
        start.ArgumentList.Add(Command);
        // The child's arena would otherwise keep a gigabyte of freed blocks per thread.
        start.Environment["MALLOC_ARENA_MAX"] = "2";
        // Freed weights of one session go back before the next is loaded.
        start.Environment["MALLOC_MMAP_THRESHOLD_"] = start.Environment["MALLOC_TRIM_THRESHOLD_"] = "4194304";
        return start;
    }
}
