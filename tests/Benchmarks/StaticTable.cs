using System.Globalization;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// A row for each way to quantize statically, on a text detector and a text direction classifier: pages and lines rendered here, half of
/// the lines on their heads.
/// </summary>
internal static class StaticTable
{
    private const int Pictures = 512,
        Calibrated = 128;

    private static readonly string[] Ways =
    [
        "method: static",
        "method: static, range: minmax",
        "method: static, range: average",
        "method: static, range: percentile",
        "method: static, range: entropy",
    ];

    /// <summary>Prints the rows.</summary>
    /// <param name="detector">The detector's <c>.onnx</c>.</param>
    /// <param name="classifier">The classifier's.</param>
    /// <param name="steps">Other steps to try than those of the table, each as in a recipe without its <c>steps</c>, or none.</param>
    public static async Task<int> RunAsync(string detector, string classifier, string[] steps)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-static-").FullName;
        try
        {
            string[] all = steps.Length > 0 ? steps : [.. Ways.Select(w => $"- quantize: {{{w}}}")];
            foreach (var (model, width, height, turned) in new[] { (detector, 320, 96, false), (classifier, 192, 48, true) })
            {
                if (!File.Exists(model))
                    continue;
                var data = TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", seed: 3, Pictures, width, height, turned);
                Console.WriteLine(
                    $"\n| {Path.GetFileNameWithoutExtension(model)} | size ratio | cosine | relative error | top-1 agreement | integer work | latency ratio | seconds |\n|---|---:|---:|---:|---:|---:|---:|---:|"
                );
                foreach (var way in all)
                    await PrintAsync(way, model, data, folder, height, width);
            }
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task PrintAsync(string way, string model, string data, string folder, int height, int width)
    {
        var (r, file) = await TableRow.MakeAsync(
            folder,
            model,
            $"steps:\n{way.Replace("static", $"static, samples: {Calibrated}", StringComparison.Ordinal)}",
            data
        );
        var share = IntegerWork.Share(file, height, width);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {way.ReplaceLineEndings(" ")} | {r.Size.Ratio:0.000} | {r.Fidelity.Cosine:0.0000} | {r.Fidelity.RelativeError:0.000} | {r.Fidelity.Top1Agreement:0.0000} | {share:0.000} | {r.Latency!.Ratio:0.00} | {r.ElapsedSeconds:0.0} |"
            )
        );
    }
}
