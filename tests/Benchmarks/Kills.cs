using System.Diagnostics;
using System.Globalization;
using Serverless.Local;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// Kills the process that runs the model, and the host, at random moments of calibrated runs: the result must be the same to the byte,
/// no line of the journal lost, and no process left after two seconds.
/// </summary>
internal static class Kills
{
    private static readonly (string Name, string Yaml)[] Recipes =
    [
        ("gptq", "version: 1\nsteps:\n- quantize: {method: gptq, bits: 4}\n"),
        ("mixed", "version: 1\nbudget: {maxSizeRatio: 0.12}\nsteps:\n- quantize: {method: gptq, bits: mixed}\n"),
        ("static", "version: 1\nsteps:\n- quantize: {method: static}\n"),
    ];

    /// <summary>Kills.</summary>
    /// <param name="drop">A folder with a model and data.</param>
    /// <param name="count">Kills of each kind that hit a running process, shared by the recipes.</param>
    /// <param name="seed">Of the moments.</param>
    /// <returns>0 when all held.</returns>
    public static async Task<int> RunAsync(string drop, int count, int seed)
    {
        var random = new Random(seed);
        var failures = new List<string>();
        Console.WriteLine(
            "| recipe | killed | kills | came too late | same bytes | journal kept | longest life of a child after its host, s |"
        );
        Console.WriteLine("|---|---|---:|---:|---:|---:|---:|");
        for (var r = 0; r < Recipes.Length; r++)
        {
            var root = Directory.CreateTempSubdirectory("serverless-kills-").FullName;
            var recipe = Path.Combine(root, "recipe.yaml");
            await File.WriteAllTextAsync(recipe, Recipes[r].Yaml);
            var clock = Stopwatch.StartNew();
            var plain = await EndAsync(Start(root, drop, recipe, "plain"));
            var whole = clock.Elapsed;
            if (plain.Code != 0)
                failures.Add($"{Recipes[r].Name}: {plain.Error}");
            var expected = await File.ReadAllBytesAsync(Path.Combine(root, "plain", "model.onnx"));
            foreach (var host in new[] { false, true })
            {
                var (kills, late, same, kept, longest) = ((count / Recipes.Length) + (r < count % Recipes.Length ? 1 : 0), 0, 0, 0, 0.0);
                for (var i = 0; i - late < kills; i++)
                {
                    var output = $"out-{host}-{i}";
                    using var run = Start(root, drop, recipe, output);
                    var ending = EndAsync(run);
                    await Task.Delay(whole * random.NextDouble());
                    var children = run.HasExited ? [] : ChildProcesses.Of(run.Id);
                    var victim = host
                        ? run.HasExited
                            ? null
                            : run.Id
                        : children.Count > 0
                            ? children[0]
                            : await ChildProcesses.WaitForOneAsync(run);
                    if (victim is { } id)
                        ChildProcesses.Signal(id, "KILL");
                    var ended = await ending;
                    if (victim is null)
                    {
                        late++;
                        continue;
                    }
                    if (host)
                        longest = Math.Max(longest, await LifeAsync(children));
                    var lines = Journal(root, output);
                    if (ended.Code != 0)
                        ended = await EndAsync(Start(root, drop, recipe, output));
                    if (lines == 0 || ended.Error.Contains($"Going on from {lines} finished", StringComparison.Ordinal))
                        kept++;
                    else
                        failures.Add(
                            $"{Recipes[r].Name}, host {host}, kill {i}: {lines} lines in the journal, then: {ended.Error.Split('\n')[0]}"
                        );
                    var made = ended.Code == 0 ? await File.ReadAllBytesAsync(Path.Combine(root, output, "model.onnx")) : [];
                    if (expected.AsSpan().SequenceEqual(made))
                        same++;
                    else
                        failures.Add($"{Recipes[r].Name}, host {host}, kill {i}: {ended.Code} {ended.Error}");
                }
                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"| {Recipes[r].Name} | {(host ? "host" : "model process")} | {kills} | {late} | {same} | {kept} | {(host ? longest.ToString("0.00", CultureInfo.InvariantCulture) : "")} |"
                    )
                );
                if (longest > 2)
                    failures.Add($"{Recipes[r].Name}: a child lived {longest:0.0} s after its host.");
            }
            Directory.Delete(root, recursive: true);
        }
        foreach (var f in failures)
            Console.WriteLine(f);
        return failures.Count == 0 ? 0 : 1;
    }

    private static async Task<double> LifeAsync(IReadOnlyList<int> children)
    {
        var clock = Stopwatch.StartNew();
        while (children.Any(ChildProcesses.IsAlive) && clock.Elapsed < TimeSpan.FromSeconds(30))
            await Task.Delay(5);
        return clock.Elapsed.TotalSeconds;
    }

    // Whole lines of the journal that a killed run left; 0 where it left none.
    private static int Journal(string root, string output)
    {
        var work = Path.Combine(root, $"work-{output}");
        var journal = Directory.Exists(work) ? Directory.GetFiles(work, "journal.jsonl", SearchOption.AllDirectories) : [];
        return journal is [var file] ? File.ReadAllText(file).Count(c => c == '\n') : 0;
    }

    private static Process Start(string root, string drop, string recipe, string output)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            WorkingDirectory = root,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (
            var a in new[]
            {
                typeof(ExitCode).Assembly.Location,
                "compress",
                Path.GetFullPath(drop),
                "--recipe",
                recipe,
                "--out",
                output,
                "--work",
                $"work-{output}",
            }
        )
            start.ArgumentList.Add(a);
        return Process.Start(start)!;
    }

    private static async Task<(int Code, string Error)> EndAsync(Process run)
    {
        _ = run.StandardOutput.ReadToEndAsync();
        var error = await run.StandardError.ReadToEndAsync();
        await run.WaitForExitAsync();
        return (run.ExitCode, error);
    }
}
