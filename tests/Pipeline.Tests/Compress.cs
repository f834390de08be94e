using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Local;
using Serverless.TestSupport;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Runs a drop through the local host inside the test's process. The models are not timed against each other, unless the recipe says how
/// they are compared: a clock has no part in what these tests look at.
/// </summary>
internal sealed record Compressed(RunResult Result, Report Report, string File)
{
    private static readonly ConcurrentDictionary<string, Lazy<Task<Compressed>>> Shared = new(StringComparer.Ordinal);

    // Results that several tests look at, until the process ends.
    private static readonly Lazy<Folder> Kept = new(() =>
    {
        var folder = new Folder();
        TestFolders.AtExit(folder.Path);
        return folder;
    });

    public static async Task<Compressed> RunAsync(Folder folder, ModelProto model, string recipe, string? data = null)
    {
        folder.Write("model/m.onnx", model);
        return await RunAsync(folder, Path.Combine(folder.Path, "model", "m.onnx"), recipe, data);
    }

    public static async Task<Compressed> RunAsync(
        Folder folder,
        string model,
        string recipe,
        string? data = null,
        string? work = null,
        List<RunStatus>? statuses = null
    )
    {
        if (!recipe.Contains("evaluate:", StringComparison.Ordinal))
            recipe = $"{recipe.TrimEnd()}\nevaluate: {{latency: false}}\n";
        var output = Path.Combine(folder.Path, "out-" + Guid.NewGuid().ToString("N")[..8]);
        if (work is not null || statuses is not null || !model.StartsWith(RealModels.Repository, StringComparison.Ordinal))
            return await RunAsync(folder, model, recipe, data, work, statuses, output);
        // The same real model, recipe and samples are one run, whichever tests look at it.
        var key = $"{Hash(model)} {(data is null ? "" : Hash(data))} {recipe}";
        var kept = Path.Combine(Kept.Value.Path, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key))));
        var done = await Shared.GetOrAdd(key, _ => new(() => RunAsync(folder, model, recipe, data, work, statuses, kept))).Value;
        Directory.CreateDirectory(output);
        foreach (var file in Directory.GetFiles(kept))
            System.IO.File.Copy(file, Path.Combine(output, Path.GetFileName(file)));
        return done with { File = Path.Combine(output, "model.onnx") };
    }

    private static async Task<Compressed> RunAsync(
        Folder folder,
        string model,
        string recipe,
        string? data,
        string? work,
        List<RunStatus>? statuses,
        string output
    )
    {
        var file = folder.Write($"recipe-{Path.GetFileName(output)}/recipe.yaml", Encoding.UTF8.GetBytes(recipe));
        var options = new LocalOptions(output, folder.Path, work, 1L << 30, Isolated: false);
        var result = await RunDrop.RunAsync(
            Drop.Of(model, file, data),
            options,
            s =>
            {
                lock (options)
                    statuses?.Add(s);
            },
            _ => { },
            CancellationToken.None
        );
        var report = JsonSerializer.Deserialize<Report>(
            await System.IO.File.ReadAllBytesAsync(Path.Combine(output, "report.json")),
            Json.Options
        )!;
        return new Compressed(result.Run, report, Path.Combine(output, "model.onnx"));
    }

    /// <summary>Relative error of a result against its original, on the samples that another run held out.</summary>
    /// <param name="original">The original.</param>
    /// <param name="data">The samples; null for made-up ones.</param>
    /// <param name="seen">Samples that the other run saw, at the start of the data.</param>
    public async Task<double> ErrorAsync(string original, string? data, int seen)
    {
        var (before, after) = (await IndexAsync(original), await IndexAsync(File));
        using var file = data is null ? null : System.IO.File.OpenRead(data);
        using var samples = file is null ? null : new NpzData(file, data!, InputSpec.Of(before.Model, original));
        var (from, to) = (Path.GetDirectoryName(original)!, Path.GetDirectoryName(File)!);
        var made = Comparison.Compare(from, before, to, after, samples, seen, new(TimeSpan.FromMinutes(2)) { Latency = false }, default);
        return made.RelativeError!.Value;
    }

    /// <summary>Latencies of a result and its original, measured anew.</summary>
    /// <param name="original">The original.</param>
    /// <param name="result">The result.</param>
    /// <param name="data">The samples.</param>
    public static async Task<Latency> LatencyAsync(string original, string result, string data)
    {
        var (before, after) = (await IndexAsync(original), await IndexAsync(result));
        using var file = System.IO.File.OpenRead(data);
        using var samples = new NpzData(file, data, InputSpec.Of(before.Model, original));
        var (from, to) = (Path.GetDirectoryName(original)!, Path.GetDirectoryName(result)!);
        var options = new ComparisonOptions(TimeSpan.FromMinutes(2)) { Samples = 1, MostLatencyRatio = 0.63 };
        return Comparison.Compare(from, before, to, after, samples, 0, options, default).Latency!;
    }

    private static Task<ModelIndex> IndexAsync(string file)
    {
        var store = new FolderStore(new Dictionary<string, string> { ["m"] = Path.GetDirectoryName(file)! });
        return ModelIndexer.IndexAsync(store, $"m/{Path.GetFileName(file)}", default);
    }

    private static string Hash(string file)
    {
        using var stream = System.IO.File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
