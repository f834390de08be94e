using System.Globalization;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>A row for each model and uniform width: its error, and that of mixed widths in the same bytes.</summary>
internal static class MixedTable
{
    private static readonly string[] Methods = ["rtn, bits: 4", "gptq, bits: 3", "gptq, bits: 4", "hqq, bits: 4"];

    /// <summary>Prints the rows.</summary>
    /// <param name="models">The models: PP-OCR's get rendered pictures, those with a <c>data.npz</c> beside them that, others synthetic
    /// inputs.</param>
    public static async Task<int> RunAsync(string[] models)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-mixed-").FullName;
        try
        {
            Console.WriteLine(
                "| model | one width | size ratio | relative error | mixed: size ratio | relative error | seconds |\n|---|---|---:|---:|---:|---:|---:|"
            );
            foreach (var model in models)
            {
                var (name, beside) = (
                    Path.GetFileNameWithoutExtension(model),
                    Path.Combine(Path.GetDirectoryName(Path.GetFullPath(model))!, "data.npz")
                );
                var npz = Path.Combine(folder, "pictures.npz");
                var data =
                    name.Contains("_rec_", StringComparison.Ordinal) ? TextLines.WriteNpz(npz, "x", seed: 5, count: 96)
                    : name.Contains("_det_", StringComparison.Ordinal)
                        ? TextLines.WriteNpz(npz, "x", seed: 5, count: 48, width: 320, height: 96)
                    : name.Contains("_cls_", StringComparison.Ordinal)
                        ? TextLines.WriteNpz(npz, "x", seed: 5, count: 384, width: 192, turned: true)
                    : File.Exists(beside) ? beside
                    : null;
                foreach (var method in Methods)
                {
                    var one = await TableRow.MakeAsync(folder, model, $"steps:\n- quantize: {{method: {method}, protect: 0}}", data);
                    var budget = (Math.Ceiling(one.Report.Size.Ratio * 1e8) / 1e8).ToString("0.########", CultureInfo.InvariantCulture);
                    var mixed = (
                        await TableRow.MakeAsync(
                            folder,
                            model,
                            $"budget: {{maxSizeRatio: {budget}}}\nsteps:\n- quantize: {{method: {method.Split(',')[0]}, bits: mixed}}",
                            data
                        )
                    ).Report;
                    Console.WriteLine(
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"| {name} | {method} | {one.Report.Size.Ratio:0.0000} | {one.Report.Fidelity.RelativeError:0.000} | {mixed.Size.Ratio:0.0000} | {mixed.Fidelity.RelativeError:0.000} | {mixed.ElapsedSeconds:0} |"
                        )
                    );
                }
            }
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
