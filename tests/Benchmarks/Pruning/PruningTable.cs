using System.Globalization;

namespace Serverless.Benchmarks;

/// <summary>
/// A row for each method of pruning and sparsity, on the digits, LeNet-5, a transformer, a text recogniser and a text detector:
/// <c>pruning RECOGNISER DETECTOR [MODELS|METHODS…]</c>.
/// </summary>
internal static class PruningTable
{
    private static readonly string[] Amounts =
    [
        "sparsity: 0.3",
        "sparsity: 0.4",
        "sparsity: 0.5",
        "sparsity: 0.7",
        "sparsity: 0.9",
        "pattern: \"2:4\"",
    ];

    private static readonly string[] Methods = ["magnitude", "wanda", "sparsegpt"];

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="words">Models by name, and other prunings than those of the table, as <c>method: wanda, sparsity: 0.6</c>.</param>
    public static Task<int> RunAsync(string recogniser, string detector, string[] words) =>
        PruningModel.EachAsync(
            "pruning",
            recogniser,
            detector,
            words,
            [.. Amounts.SelectMany(a => Methods.Select(m => $"method: {m}, {a}"))],
            PrintAsync
        );

    private static async Task PrintAsync(PruningModel model, string[] prunings, string folder)
    {
        Console.WriteLine(
            $"\n| {model.Name} | relative error | top-1 agreement | accuracy | size ratio | forms | of the entropy bound | seconds |"
        );
        Console.WriteLine("|---|---:|---:|---|---:|---|---:|---:|");
        foreach (var pruning in prunings)
        {
            var (report, file) = await TableRow.MakeAsync(
                folder,
                model.File,
                $"steps:\n- prune: {{{pruning}}}",
                model.Data,
                evaluates: false
            );
            var compared = await model.CompareAsync(file);
            var accuracy = model.Accuracy(file, compared) is { } a ? $"{a.Before:0.000} → {a.After:0.000}" : "";
            var bytes = PrunedBytes.Of(report);
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {Short(pruning)} | {compared.RelativeError:0.000} | {compared.Top1Agreement:0.000} | {accuracy} | {report.Size.Ratio:0.000} | {bytes.Forms} | {bytes.Stored / bytes.Bound:0.000} | {report.ElapsedSeconds:0.0} |"
                )
            );
            Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
        }
    }

    private static string Short(string pruning) =>
        pruning
            .Replace("method: ", "", StringComparison.Ordinal)
            .Replace("pattern: ", "", StringComparison.Ordinal)
            .Replace("\"", "", StringComparison.Ordinal);
}
