using System.Globalization;

namespace Serverless.Benchmarks;

/// <summary>
/// A row for each way to a smaller file, at several sizes, all with <c>store: small</c>: low rank, separated convolutions, codebooks, rounding,
/// alone and behind one another. <c>smaller RECOGNISER DETECTOR [MODELS|STEPS…]</c>.
/// </summary>
internal static class SmallerTable
{
    private static readonly string[] Steps =
    [
        .. Each("factorize: {method: svd, ratio: ?}", "0.75", "0.5", "0.25"),
        .. Each("factorize: {method: drone, ratio: ?}", "0.75", "0.5", "0.25"),
        .. Each("separate: {terms: ?}", "4", "2", "1"),
        .. Each("share: {method: codebook, bits: ?}", "5", "4", "3"),
        .. Each("share: {method: codebook, bits: ?, weigh: none}", "5", "4", "3"),
        "share: {method: product, dimension: 2, bits: 8}",
        "share: {method: product, dimension: 4, bits: 8}",
        .. Each("quantize: {method: gptq, bits: ?}", "4", "3", "2"),
        .. Each("quantize: {method: watersic, bits: ?}", "4", "3", "2"),
        "factorize: {method: drone, ratio: 0.5}; quantize: {method: watersic, bits: 4}",
        "prune: {method: sparsegpt, sparsity: 0.5}; share: {method: codebook, bits: 4}",
        "prune: {method: sparsegpt, sparsity: 0.5}; quantize: {method: watersic, bits: 3}",
    ];

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="words">Models by name, and other steps than those of the table, a semicolon between two.</param>
    public static Task<int> RunAsync(string recogniser, string detector, string[] words) =>
        PruningModel.EachAsync("smaller", recogniser, detector, words, Steps, PrintAsync);

    private static IEnumerable<string> Each(string step, params string[] values) =>
        values.Select(v => step.Replace("?", v, StringComparison.Ordinal));

    private static async Task PrintAsync(PruningModel model, string[] steps, string folder)
    {
        Console.WriteLine(
            $"\n| {model.Name} | size ratio | relative error | top-1 agreement | accuracy | bytes coded | load, seconds | seconds |"
        );
        Console.WriteLine("|---|---:|---:|---:|---|---:|---:|---:|");
        foreach (var row in steps)
        {
            var recipe = $"store: small\nsteps:\n- {row.Replace("; ", "\n- ", StringComparison.Ordinal)}";
            var (report, file) = await TableRow.MakeAsync(folder, model.File, recipe, model.Data, evaluates: false);
            var compared = await model.CompareAsync(file);
            var accuracy = model.Accuracy(file, compared) is { } a ? $"{a.Before:0.000} → {a.After:0.000}" : "";
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {row} | {report.Size.Ratio:0.000} | {compared.RelativeError:0.000} | {compared.Top1Agreement:0.000} | {accuracy} | {report.EntropyCoding?.BytesAfter:N0} | {compared.LoadAfter?.Seconds:0.00} | {report.ElapsedSeconds:0.0} |"
                )
            );
            Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
        }
    }
}
