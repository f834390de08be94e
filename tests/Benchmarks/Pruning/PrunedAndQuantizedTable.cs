using System.Globalization;
using Serverless.Core.Forms;

namespace Serverless.Benchmarks;

/// <summary>
/// A row for each quantization: its size and error alone, and behind a pruning of half of the weights. Where a kernel keeps the zeros in
/// <c>store: balanced</c>, a second row has <c>store: small</c>. <c>pruned-quantized RECOGNISER DETECTOR [MODELS|METHODS…]</c>.
/// </summary>
internal static class PrunedAndQuantizedTable
{
    private const string Pruning = "- prune: {method: sparsegpt, sparsity: 0.5}\n";

    private static readonly string[] Methods =
    [
        "method: rtn, bits: 8",
        "method: rtn, bits: 4",
        "method: gptq, bits: 4",
        "method: hqq, bits: 4",
        "method: ternary",
        "method: fixed, bits: 8",
        "method: float16",
        "method: static",
        "method: dynamic",
    ];

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="words">Models by name, and other quantizations than those of the table.</param>
    public static Task<int> RunAsync(string recogniser, string detector, string[] words) =>
        PruningModel.EachAsync("pruned", recogniser, detector, words, Methods, PrintAsync);

    private static async Task PrintAsync(PruningModel model, string[] methods, string folder)
    {
        var pruned = await MakeAsync(model, Pruning, "balanced", folder);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"\n{model.Name}: pruned alone to {pruned.Size:0.000} of its size, error {pruned.Error:0.000}.\n"
            )
        );
        Console.WriteLine(
            "| quantization | store | size alone | error alone | size of both | error of both | errors added | forms of both |"
        );
        Console.WriteLine("|---|---|---:|---:|---:|---:|---:|---|");
        foreach (var method in methods)
        {
            var step = $"- quantize: {{{method}}}\n";
            foreach (var store in new[] { "balanced", "small" })
            {
                var both = await MakeAsync(model, Pruning + step, store, folder);
                var alone = await MakeAsync(model, step, store, folder);
                Console.WriteLine(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"| {method.Replace("method: ", "", StringComparison.Ordinal)} | {store} | {alone.Size:0.000} | {alone.Error:0.000} | {both.Size:0.000} | {both.Error:0.000} | {pruned.Error + alone.Error:0.000} | {both.Forms} |"
                    )
                );
                if (!both.HasKernels)
                    break;
            }
        }
    }

    private static async Task<Made> MakeAsync(PruningModel model, string steps, string store, string folder)
    {
        var (report, file) = await TableRow.MakeAsync(folder, model.File, $"store: {store}\nsteps:\n{steps}", model.Data, evaluates: false);
        var compared = await model.CompareAsync(file);
        Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
        return new Made(
            report.Size.Ratio,
            compared.RelativeError!.Value,
            PrunedBytes.Of(report).Forms,
            report.Layers.Any(l => l.Form is FormName.MatMulNBits or FormName.GatherBlockQuantized)
        );
    }

    private sealed record Made(double Size, double Error, string Forms, bool HasKernels);
}
