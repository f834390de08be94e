using System.Globalization;
using System.Text.Json;
using Serverless.Core.Techniques.Pruning.Structured;

namespace Serverless.Benchmarks;

/// <summary>
/// What whole units cost: rows by the share of multiply-accumulates that goes, with refit and without, on the half of the samples that the
/// step does not see. <c>shrink RECOGNISER DETECTOR [MODELS|RATIOS…]</c>.
/// </summary>
internal static class ShrinkTable
{
    private static readonly string[] Ratios = ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"];

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="words">Models by name, and other ratios than those of the table.</param>
    public static Task<int> RunAsync(string recogniser, string detector, string[] words) =>
        PruningModel.EachAsync("shrink", recogniser, detector, words, Ratios, PrintAsync);

    private static async Task PrintAsync(PruningModel model, string[] ratios, string folder)
    {
        Console.WriteLine(
            $"\n| {model.Name}: ratio | refit | multiply-accumulates | bytes | latency | cosine | error | same decision | accuracy | seconds |"
        );
        Console.WriteLine("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        foreach (var ratio in ratios)
        foreach (var refit in new[] { "false", "true" })
        {
            var steps = $"steps:\n- shrink: {{ratio: {ratio}, refit: {refit}}}\n";
            var (r, file) = await TableRow.MakeAsync(folder, model.File, steps, model.Data);
            var accuracy = model.Accuracy(file, await model.CompareAsync(file));
            var way = r.Notes["structure"].Deserialize<ShrinkErrors>(Core.Json.Options)!;
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {ratio} | {Way(way)} | {r.MultiplyAccumulates?.Ratio:0.000} | {r.Size.Ratio:0.000} | {r.Latency?.Ratio:0.00} | {r.Fidelity.Cosine:0.0000} | {r.Fidelity.RelativeError:0.000} | {r.Fidelity.Top1Agreement:0.000} | {accuracy?.Before:0.000} → {accuracy?.After:0.000} | {r.CompressSeconds:0} |"
                )
            );
            Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
        }
    }

    // The errors on the samples that the step sees.
    private static string Way(ShrinkErrors errors) =>
        errors.Refitted is null
            ? "no"
            : string.Create(CultureInfo.InvariantCulture, $"{errors.Cut:0.00} → {errors.Refitted:0.00} → {errors.Staged:0.00}");
}
