using System.Globalization;
using System.Text.Json;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.Pruning.Blocks;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// What blocks cost that were ranked, and blocks at random: on a transformer with sentences, and on a text recogniser with lines rendered
/// here, each on the half of the samples that no step saw.
/// </summary>
internal static class BlockTable
{
    private const int Lines = 64,
        Seed = 11,
        Choices = 8;

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash for the transformer alone.</param>
    public static async Task<int> RunAsync(string recogniser)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-blocks-").FullName;
        try
        {
            var at = ModelPackages.Repository;
            if (MiniLm.Fetch(at) is { } transformer)
            {
                var text = MiniLm.WriteNpz(Path.Combine(folder, "text.npz"), at, Lines, 64);
                await PrintAsync("MiniLM-L6", Path.Combine(transformer, "model.onnx"), text, ["residual", "layer"], folder);
            }
            if (recogniser != "-")
            {
                var lines = TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", Seed, Lines);
                await PrintAsync("text recogniser", recogniser, lines, ["residual", "any"], folder);
            }
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task PrintAsync(string name, string model, string data, string[] sets, string folder)
    {
        var keys = Path.Combine(Path.GetDirectoryName(model)!, "ppocr_keys_v1.txt");
        var text = File.Exists(keys) ? new TextAccuracy(keys) : null;
        Console.WriteLine($"\n| {name}: of | method | blocks | parameters | macs | cosine | relative error | accuracy | latency ratio |");
        Console.WriteLine("|---|---|---:|---:|---:|---:|---:|---:|---:|");
        foreach (var set in sets)
        foreach (var count in new[] { 1, 2, 3 })
        {
            foreach (var method in new[] { "influence", "loss" })
            {
                var (r, file) = await TableRow.MakeAsync(
                    folder,
                    model,
                    $"steps:\n- drop: {{method: {method}, blocks: {count}, of: {set}}}\n",
                    data
                );
                var gone = r.Notes["blocks"].Deserialize<BlocksRemoved>(Core.Json.Options)!;
                Row(
                    set,
                    method,
                    gone.Removed,
                    gone.ParametersShare,
                    gone.MacsShare,
                    r.Fidelity.Cosine,
                    r.Fidelity.RelativeError,
                    Read(text, file),
                    r.Latency!.Ratio
                );
            }
            await RandomAsync(set, count, model, data, text, folder);
        }
    }

    private static async Task RandomAsync(string set, int count, string file, string data, TextAccuracy? text, string folder)
    {
        var store = new FolderStore(new Dictionary<string, string> { ["m"] = Path.GetDirectoryName(file)!, ["r"] = folder });
        var original = await ModelIndexer.IndexAsync(store, $"m/{Path.GetFileName(file)}", default);
        var of = Enum.Parse<BlockChoice>(set, ignoreCase: true);
        var sizes = new WeightSizes(original.Model, null);
        var blocks = RankedBlock.Of(GraphBlocks.Of(new GraphFacts(original.Model), default), of, sizes).ToArray();
        var (random, made) = (new Random(7), new List<(double Share, ComparisonResult Figures, double? Read)>());
        for (var i = 0; i < Choices; i++)
        {
            random.Shuffle(blocks);
            var chosen = new List<RankedBlock>();
            foreach (var block in blocks)
                if (chosen.Count < count && chosen.All(b => !b.Block.Overlaps(block.Block)))
                    chosen.Add(block);
            var left = original.Model.Clone();
            BlockRemoval.Remove(left, [.. chosen.Select(b => b.Block)], default);
            await ModelWriter.WriteAsync(
                store,
                left,
                "m",
                new Dictionary<string, string>(),
                "r/random",
                ModelWriter.ProtobufLimit,
                default
            );
            var index = await ModelIndexer.IndexAsync(store, $"r/random/{ModelWriter.ModelName}", default);
            using var stream = File.OpenRead(data);
            using var samples = new NpzData(stream, data, InputSpec.Of(original.Model, file));
            var options = new ComparisonOptions(TimeSpan.FromMinutes(5)) { Latency = false };
            var path = Path.Combine(folder, "random");
            var figures = Comparison.Compare(Path.GetDirectoryName(file)!, original, path, index, samples, Lines / 2, options, default);
            made.Add(
                ((double)chosen.Sum(b => b.Parameters) / sizes.Parameters, figures, Read(text, Path.Combine(path, ModelWriter.ModelName)))
            );
        }
        Row(
            set,
            $"random, mean of {Choices}",
            count,
            made.Average(m => m.Share),
            null,
            made.Average(m => m.Figures.Cosine),
            made.Average(m => m.Figures.RelativeError),
            made.Average(m => m.Read),
            null
        );
    }

    private static double? Read(TextAccuracy? text, string file) => text?.Of(file, Seed, Enumerable.Range(Lines / 2, Lines / 2));

    private static void Row(
        string set,
        string method,
        int count,
        double parameters,
        double? macs,
        double? cosine,
        double? error,
        double? accuracy,
        double? latency
    ) =>
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {set} | {method} | {count} | {parameters:0.000} | {macs:0.000} | {cosine:0.0000} | {error:0.000} | {accuracy:0.000} | {latency:0.00} |"
            )
        );
}
