using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Local;

namespace Serverless.TestSupport;

/// <summary>How the compression of a mutant ended.</summary>
/// <param name="ExitCode">What the command line returned; -1 when it did not end in time.</param>
/// <param name="Sentence">Its last line on standard error.</param>
/// <param name="Fault">What is wrong with that, or null.</param>
/// <param name="Time">How long it took.</param>
/// <param name="Cosine">Of the result's outputs; null where there is none.</param>
internal sealed record MutantOutcome(int ExitCode, string Sentence, string? Fault, TimeSpan Time, double? Cosine = null);

/// <summary>
/// Compresses mutants through the command line and checks what a user relies on: exit code 0, 2 or 3; one sentence; the
/// original as it was; nothing published by a failed run; no work left behind; a result that ONNX Runtime loads.
/// </summary>
internal static partial class MutantRun
{
    private const int LargestMixed = 4 << 20;
    private const int ShortestSentence = 20,
        LongestSentence = 600;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    /// <summary>Recipes, the four main methods more often than others. Samples are few: hostile models need no good statistics.</summary>
    private static readonly string[] Methods =
    [
        Quantize("method: rtn"),
        Quantize("method: rtn, bits: 4"),
        Quantize("method: gptq, samples: 4"),
        Quantize("method: gptq, bits: 3, group: channel, samples: 4"),
        Quantize("method: static, samples: 4"),
        Quantize("method: static, samples: 4, range: entropy"),
        Quantize("method: dynamic"),
        Quantize("method: dynamic"),
        Quantize("method: rtn"),
        Quantize("method: gptq, samples: 4"),
        Quantize("method: static, samples: 4"),
        Quantize("method: dynamic"),
        Quantize("method: awq, samples: 4"),
        Quantize("method: hqq"),
        Quantize("method: rtn, bits: mixed"),
        Quantize("method: float16, compute: true"),
        "- equalize: {}\n" + Quantize("method: static, samples: 4"),
        "- smooth: {}\n" + Quantize("method: static, samples: 4"),
        "- correctBias: {}\n" + Quantize("method: rtn, bits: 6, group: channel"),
        Quantize("method: float16"),
        Quantize("method: ternary"),
        Quantize("method: binary, order: 2"),
        Quantize("method: fixed"),
        "- smooth: {}\n" + Quantize("method: dynamic"),
    ];

    /// <summary>Steps of the recipe of a mutant. Mixed widths, which run the model for each layer, are for small models.</summary>
    /// <param name="number">Number of the mutant.</param>
    /// <param name="bytes">Bytes of its model.</param>
    public static string Steps(int number, int bytes) =>
        Methods[number % Methods.Length] is var steps && bytes > LargestMixed && steps.Contains("mixed", StringComparison.Ordinal)
            ? Methods[0]
            : Methods[number % Methods.Length];

    /// <summary>Compresses one.</summary>
    /// <param name="program">The command line's assembly.</param>
    /// <param name="folder">A folder for this run alone.</param>
    /// <param name="model">The mutant's file.</param>
    /// <param name="steps">The recipe's steps.</param>
    /// <param name="load">Also loads the result.</param>
    public static async Task<MutantOutcome> RunAsync(string program, string folder, byte[] model, string steps, bool load)
    {
        var source = await WriteAsync(folder, model, steps);
        var clock = Stopwatch.StartNew();
        var start = new ProcessStartInfo("dotnet", [program, "compress", "drop/m.onnx", "--recipe", "recipe.yaml", "--out", "out"])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DOTNET_TieredPGO"] = "0";
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
            return new MutantOutcome(-1, (await error).Trim().Split('\n')[^1], $"took more than {Limit.TotalSeconds} s", clock.Elapsed);
        }
        var cosine = Cosine().Match(await output) is { Success: true } m
            ? double.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture)
            : (double?)null;
        var said = await error;
        var sentence = said.Trim().Split('\n')[^1];
        return new MutantOutcome(
            process.ExitCode,
            sentence,
            WhyWrong(process.ExitCode, said, sentence, folder, source, model, load),
            clock.Elapsed,
            cosine
        );
    }

    /// <summary>
    /// Compresses one in this process, which saves the start of several. What ONNX Runtime refuses there is the original's fault where the
    /// process of a model would say so, which is asked here; else it is left to the command line.
    /// </summary>
    public static async Task<MutantOutcome> InProcessAsync(string program, string folder, byte[] model, string steps, bool load)
    {
        var source = await WriteAsync(folder, model, steps);
        var clock = Stopwatch.StartNew();
        using var limit = new CancellationTokenSource(Limit);
        var options = new LocalOptions(Path.Combine(folder, "out"), folder, null, 1L << 30, Isolated: false);
        var (code, sentence, cosine) = (-1, "", (double?)null);
        try
        {
            var run = RunDrop.RunAsync(
                Drop.Of(source, Path.Combine(folder, "recipe.yaml"), null),
                options,
                _ => { },
                _ => { },
                limit.Token
            );
            var result = await run.WaitAsync(Limit + Limit);
            (code, cosine) = (result.ExitCode, result.Run.Cosine);
        }
        catch (BadInputException e)
        {
            (code, sentence) = (2, e.Message);
        }
        catch (OnnxRuntimeException)
        {
            if (await WhyNotAsync(folder) is not { } why)
            {
                Directory.Delete(folder, recursive: true);
                return await RunAsync(program, folder, model, steps, load);
            }
            (code, sentence) = (2, why.Message);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            return new MutantOutcome(1, $"{e}", $"{e.GetType().Name}", clock.Elapsed);
        }
        return new MutantOutcome(code, sentence, WhyWrong(code, sentence, sentence, folder, source, model, load), clock.Elapsed, cosine);
    }

    /// <summary>What is wrong with a sentence, or null.</summary>
    public static string? WhyNoSentence(string sentence) =>
        sentence switch
        {
            _ when sentence.Length is < ShortestSentence or > LongestSentence => $"a sentence of {sentence.Length} characters",
            _ when ExceptionName().Match(sentence) is { Success: true } m => $"names {m.Value}",
            _ when sentence.Any(char.IsControl) => "control characters",
            _ => null,
        };

    // As the host does with bad input, its work is cleared.
    private static async Task<BadInputException?> WhyNotAsync(string folder)
    {
        var work = Path.Combine(folder, ".serverless-work");
        var run = Path.GetFileName(Directory.GetDirectories(work).Single(d => File.Exists(Path.Combine(d, "files.json"))));
        var store = new FolderStore(new Dictionary<string, string> { ["drop"] = Path.Combine(folder, "drop"), ["work"] = work });
        var request = new RunRequest("m", "drop/m.onnx", null, null, $"work/{run}", $"work/{run}/layers", "out/out");
        var why = await OriginalModel.WhyNotAsync(store, request, CancellationToken.None);
        if (why is not null)
            Directory.Delete(work, recursive: true);
        return why;
    }

    private static async Task<string> WriteAsync(string folder, byte[] model, string steps)
    {
        var source = Path.Combine(folder, "drop", "m.onnx");
        Directory.CreateDirectory(Path.GetDirectoryName(source)!);
        await File.WriteAllBytesAsync(source, model);
        await File.WriteAllTextAsync(Path.Combine(folder, "recipe.yaml"), $"version: 1\nsteps:\n{steps}");
        return source;
    }

    private static string? WhyWrong(int code, string said, string sentence, string folder, string source, byte[] model, bool load)
    {
        if (code is not (0 or 2 or 3))
            return $"exit code {code}";
        if (said.Contains("   at ", StringComparison.Ordinal))
            return "a stack trace";
        if (said.Contains(folder, StringComparison.Ordinal))
            return "an absolute path";
        if (!File.ReadAllBytes(source).AsSpan().SequenceEqual(model))
            return "the original changed";
        if (Directory.GetFileSystemEntries(Path.GetDirectoryName(source)!).Length != 1)
            return "something lies beside the original";
        if (Directory.Exists(Path.Combine(folder, ".serverless-work")))
            return "work is left over";
        var result = Path.Combine(folder, "out", "model.onnx");
        if (code == 2)
            return WhyNoSentence(sentence) ?? (Directory.Exists(Path.Combine(folder, "out")) ? "a failed run published something" : null);
        if (!File.Exists(result))
            return "nothing was published";
        if (!load)
            return null;
        try
        {
            using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
            using var session = new InferenceSession(result, options);
            return null;
        }
        catch (OnnxRuntimeException e)
        {
            return $"the result does not load: {e.Message}";
        }
    }

    private static string Quantize(string options) => $"- quantize: {{{options}}}\n";

    [GeneratedRegex(@"Cosine +(-?[0-9.]+)")]
    private static partial Regex Cosine();

    [GeneratedRegex(@"\b[A-Z]\w*Exception\b")]
    private static partial Regex ExceptionName();
}
