using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>A run of the command line: seconds, processor seconds, and the most memory of all its processes together.</summary>
/// <param name="Wall">Seconds.</param>
/// <param name="Processor">Processor seconds of all processes.</param>
/// <param name="PeakBytes">Resident bytes.</param>
/// <param name="LatencyMs">Milliseconds of a run of the result, or 0.</param>
/// <param name="EvaluateSeconds">Seconds of comparing the models, or 0 where the report has none.</param>
internal sealed record MeasuredRun(double Wall, double Processor, long PeakBytes, double LatencyMs, double EvaluateSeconds)
{
    private static readonly TimeSpan Sampling = TimeSpan.FromMilliseconds(10);

    /// <summary>Runs <c>compress</c>.</summary>
    /// <param name="program">The program's <c>.dll</c>.</param>
    /// <param name="folder">Where it works; its <c>out</c> holds the result afterwards.</param>
    /// <param name="arguments">What follows <c>compress</c>.</param>
    /// <exception cref="InvalidOperationException">It failed.</exception>
    public static async Task<MeasuredRun> OfAsync(string program, string folder, params string[] arguments)
    {
        foreach (var old in new[] { "out", ".serverless-work" })
            if (Directory.Exists(Path.Combine(folder, old)))
                Directory.Delete(Path.Combine(folder, old), recursive: true);
        // The shell's `times` has the processor time of what it waited for.
        var start = new ProcessStartInfo(
            "sh",
            ["-c", "dotnet \"$@\" || exit; times", "sh", program, "compress", .. arguments, "--out", "out"]
        )
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        long peak = 0;
        var exited = process.WaitForExitAsync();
        while (await Task.WhenAny(exited, Task.Delay(Sampling)) != exited)
            peak = Math.Max(peak, Resident(process.Id));
        var wall = clock.Elapsed.TotalSeconds;
        if (process.ExitCode != 0)
            throw new InvalidOperationException(await error);
        using var report = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder, "out", "report.json")));
        var root = report.RootElement;
        return new MeasuredRun(
            wall,
            Processors((await output).TrimEnd().Split('\n')[^1]),
            peak,
            root.GetProperty("latency") is { ValueKind: JsonValueKind.Object } l ? l.GetProperty("afterMs").GetDouble() : 0,
            root.TryGetProperty("evaluateSeconds", out var e) ? e.GetDouble() : 0
        );
    }

    /// <summary>Seconds in which ONNX Runtime loads a model with its default options.</summary>
    public static double Load(string model)
    {
        var clock = Stopwatch.StartNew();
        using var session = new InferenceSession(model);
        return clock.Elapsed.TotalSeconds;
    }

    // "0m1.23s 0m0.45s"
    private static double Processors(string times) =>
        times
            .Split(' ')
            .Select(t => t.TrimEnd('s').Split('m'))
            .Sum(t => (60 * double.Parse(t[0], CultureInfo.InvariantCulture)) + double.Parse(t[1], CultureInfo.InvariantCulture));

    private static long Resident(int id)
    {
        long bytes = 0;
        try
        {
            var fields = File.ReadAllText($"/proc/{id}/statm").Split(' ');
            bytes = long.Parse(fields[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
        }
        catch (IOException)
        {
            // It ended just now.
        }
        return bytes + ChildProcesses.Of(id).Sum(Resident);
    }
}
