using System.Collections.Concurrent;
using System.Globalization;
using System.Text.RegularExpressions;
using Serverless.Local;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// Mutants of seven real models through the command line, one process a core. Whatever ends otherwise than it should is printed and
/// kept, with its recipe,
/// in a folder that is named at the end.
/// </summary>
internal static partial class Mutants
{
    private const int LoadsOneIn = 4,
        SentencesShown = 60,
        WorstShown = 40;

    // Where runs take seconds there are fewer.
    private static readonly Dictionary<string, int> Weights = new(StringComparer.Ordinal)
    {
        ["digits"] = 10,
        ["ch_ppocr_mobile_v2.0_cls_infer"] = 7,
        ["silero_vad_v5"] = 5,
        ["silero_vad_v6"] = 5,
        ["minilm-first-layer"] = 3,
        ["ch_PP-OCRv4_det_infer"] = 2,
        ["ch_PP-OCRv4_rec_infer"] = 1,
    };

    private sealed record Ended(Mutant Mutant, string Steps, MutantOutcome Outcome);

    /// <summary>Runs them.</summary>
    /// <param name="args">How many (10,000), the seed (1), the number of the first (0), and whether <c>in-process</c>, to find faults
    /// sooner.</param>
    /// <returns>0 when every run ended as it should, else 1.</returns>
    public static async Task<int> RunAsync(string[] args)
    {
        var (count, seed, first) = (Number(args, 0, 10_000), Number(args, 1, 1), Number(args, 2, 0));
        var models = MutantModels.All(large: true).SelectMany(m => Enumerable.Repeat(m, Weights[m.Name])).ToArray();
        new Random(seed).Shuffle(models);
        var root = Directory.CreateTempSubdirectory("serverless-mutants-").FullName;
        var ended = new ConcurrentBag<Ended>();
        await Parallel.ForEachAsync(
            Enumerable.Range(first, count),
            async (number, _) =>
            {
                var (name, bytes) = models[number % models.Length];
                var mutant = Mutant.Make(name, bytes, seed, number);
                var steps = MutantRun.Steps(number + (number / models.Length), bytes.Length);
                var folder = Directory.CreateDirectory(Path.Combine(root, number.ToString(CultureInfo.InvariantCulture))).FullName;
                Func<string, string, byte[], string, bool, Task<MutantOutcome>> run = args.Contains("in-process")
                    ? MutantRun.InProcessAsync
                    : MutantRun.RunAsync;
                var outcome = await run(typeof(RunDrop).Assembly.Location, folder, mutant.Bytes, steps, number % LoadsOneIn == 0);
                ended.Add(new Ended(mutant, steps, outcome));
                if (outcome.Fault is null)
                    Directory.Delete(folder, recursive: true);
                else
                    Console.WriteLine(
                        $"{number}: {name}, {mutant.What}\n    {steps.TrimEnd().ReplaceLineEnds()}\n    exit {outcome.ExitCode}, {outcome.Fault}: {outcome.Sentence}"
                    );
            }
        );
        Print(ended);
        var faults = ended.Count(e => e.Outcome.Fault is not null);
        Console.WriteLine(
            $"\n{count} mutants, seed {seed}: {faults} ended as they should not{(faults > 0 ? $"; they are kept in {root}" : "")}."
        );
        if (faults == 0)
            Directory.Delete(root, recursive: true);
        return faults == 0 ? 0 : 1;
    }

    private static void Print(IReadOnlyCollection<Ended> ended)
    {
        Table("method", e => [e.Steps.TrimEnd().ReplaceLineEnds()]);
        Table("model", e => [e.Mutant.Model]);
        Table("mutation", e => e.Mutant.Recipes);
        Console.WriteLine("\n| worst cosine | mutant | recipe |\n|---:|---|---|");
        foreach (var e in ended.Where(e => e.Outcome.Cosine is not null).OrderBy(e => e.Outcome.Cosine).Take(WorstShown))
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {e.Outcome.Cosine:0.000} | {e.Mutant.Model}, {e.Mutant.What} | {e.Steps.TrimEnd().ReplaceLineEnds()} |"
                )
            );
        Console.WriteLine("\n| sentence | runs |\n|---|---:|");
        foreach (
            var g in ended
                .Where(e => e.Outcome.ExitCode == 2)
                .GroupBy(e => Shape(e.Outcome.Sentence))
                .OrderByDescending(g => g.Count())
                .Take(SentencesShown)
        )
            Console.WriteLine($"| {g.Key} | {g.Count()} |");

        void Table(string title, Func<Ended, IReadOnlyList<string>> keys)
        {
            Console.WriteLine($"\n| {title} | runs | 0 | 2 | 3 | other | faults | mean s |\n|---|---:|---:|---:|---:|---:|---:|---:|");
            foreach (
                var g in ended
                    .SelectMany(e => keys(e).Select(k => (Key: k, e.Outcome)))
                    .GroupBy(x => x.Key, x => x.Outcome)
                    .OrderBy(g => g.Key, StringComparer.Ordinal)
            )
            {
                int Of(int code) => g.Count(o => o.ExitCode == code);
                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"| {g.Key} | {g.Count()} | {Of(0)} | {Of(2)} | {Of(3)} | {g.Count() - Of(0) - Of(2) - Of(3)} | {g.Count(o => o.Fault is not null)} | {g.Average(o => o.Time.TotalSeconds):0.0} |"
                    )
                );
            }
        }
    }

    private static int Number(string[] args, int at, int otherwise) =>
        args.Length > at ? int.Parse(args[at], CultureInfo.InvariantCulture) : otherwise;

    private static string ReplaceLineEnds(this string text) => text.Replace("\n", " ", StringComparison.Ordinal);

    // Sentences that differ in names and numbers alone are one.
    private static string Shape(string sentence) => Digits().Replace(Quoted().Replace(sentence, "'…'"), "n");

    [GeneratedRegex("'[^']*'|\"[^\"]*\"|\\([^)]*\\)|\\[[^]]*\\]")]
    private static partial Regex Quoted();

    [GeneratedRegex("-?[0-9]+")]
    private static partial Regex Digits();
}
