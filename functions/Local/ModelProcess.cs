using System.Diagnostics;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Pipeline;

namespace Serverless.Local;

/// <summary>
/// Runs an activity in a child process: native code on a hostile model may crash, hang or take all memory, and then
/// only the child dies.
/// </summary>
/// <param name="spec">The store.</param>
/// <param name="memoryLimit">Resident bytes at which the child is stopped.</param>
/// <param name="timeLimit">Time after which it is stopped.</param>
internal sealed class ModelProcess(StoreSpec spec, long memoryLimit, TimeSpan timeLimit)
{
    /// <summary>The hidden command that the child runs.</summary>
    public const string Command = "run-activity";

    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(10);

    // On standard input, where other users of the machine cannot read a connection string.
    public sealed record Request(string Activity, JsonElement Input, StoreSpec Store);

    public async Task<TOutput> RunAsync<TInput, TOutput>(string activity, TInput input, CancellationToken cancellation)
    {
        var request = new Request(activity, JsonSerializer.SerializeToElement(input, Json.Options), spec);
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) is "dotnet" or "testhost") start = OfThisAssembly(start);
        start.ArgumentList.Add(Command);
        // The child's arena would otherwise keep a gigabyte of freed blocks per thread.
        start.Environment["MALLOC_ARENA_MAX"] = "2";
        using var child = Process.Start(start) ?? throw new InvalidOperationException("The evaluation process did not start.");
        string? stopped = null;
        try
        {
            var output = child.StandardOutput.ReadToEndAsync(cancellation);
            var error = child.StandardError.ReadToEndAsync(cancellation);
            await child.StandardInput.WriteAsync(JsonSerializer.Serialize(request, Json.Options).AsMemory(), cancellation);
            child.StandardInput.Close();
            stopped = await WatchAsync(child, cancellation);
            var (answer, message) = (await output, (await error).Trim());
            if (stopped is not null) throw new BadInputException($"{Model(input)}: running the model {stopped}.");
            if (child.ExitCode == ExitCode.BadInput) throw new BadInputException(message);
            if (child.ExitCode != 0 && answer.Length == 0 && child.ExitCode > 128)
                throw new BadInputException($"{Model(input)}: ONNX Runtime crashed (signal {child.ExitCode - 128}) while running the model; check it with onnx.checker and export it again.");
            if (child.ExitCode != 0) throw new InvalidOperationException(message.Length > 0 ? message : $"The evaluation process ended with {child.ExitCode}.");
            return JsonSerializer.Deserialize<TOutput>(answer, Json.Options)!;
        }
        finally
        {
            if (!child.HasExited) child.Kill(entireProcessTree: true);
        }
    }

    /// <summary>The child's side: one request on standard input, one answer on standard output.</summary>
    public static async Task<int> ServeAsync(CancellationToken cancellation)
    {
        var request = JsonSerializer.Deserialize<Request>(await Console.In.ReadToEndAsync(cancellation), Json.Options)!;
        if (request.Activity != nameof(Evaluate)) throw new InvalidOperationException($"The activity '{request.Activity}' does not run in a process of its own.");
        var context = new Core.Pipeline.ActivityContext(request.Store.Open(), new MemoryGate(long.MaxValue));
        var result = await new Evaluate().RunAsync(request.Input.Deserialize<EvaluateInput>(Json.Options)!, context, cancellation);
        Console.Out.Write(JsonSerializer.Serialize(result, Json.Options));
        return 0;
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

    private static string Model<TInput>(TInput input) => input is EvaluateInput e ? e.Request.Model : "the model";

    private static ProcessStartInfo OfThisAssembly(ProcessStartInfo start)
    {
        start.FileName = Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet" ? Environment.ProcessPath! : "dotnet";
        start.ArgumentList.Add(typeof(ModelProcess).Assembly.Location);
        return start;
    }
}
