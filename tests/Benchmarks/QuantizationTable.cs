using System.Globalization;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// A row for each method of quantization: on the digit classifier with its labelled digits, on a text recogniser with lines rendered
/// here, and on a transformer with sentences.
/// </summary>
internal static class QuantizationTable
{
    private const int Lines = 256,
        Seed = 11;

    private static readonly string[] Methods =
    [
        "method: rtn, bits: 8",
        "method: rtn, bits: 4",
        "method: rtn, bits: 3",
        "method: rtn, bits: 3, symmetric: false",
        "method: rtn, bits: 2, symmetric: false",
        "method: rtn, bits: mixed",
        "method: gptq, bits: 4",
        "method: gptq, bits: 3",
        "method: gptq, bits: 3, symmetric: false",
        "method: gptq, bits: 2, symmetric: false",
        "method: gptq, bits: mixed",
        "method: awq, bits: 4",
        "method: awq, bits: 3",
        "method: awq, bits: 2",
        "method: hqq, bits: 4",
        "method: hqq, bits: 3",
        "method: ternary",
        "method: ternary, scales: two",
        "method: binary",
        "method: binary, order: 2",
        "method: fixed, bits: 8",
        "method: fixed, bits: 16",
        "method: float16",
        "method: float16, type: bfloat16",
        "method: float16, compute: true",
        "method: static",
        "method: static, range: minmax",
        "method: static, range: entropy",
        "smooth + method: static",
        "equalize + method: static",
        "method: dynamic",
        "smooth + method: dynamic",
        "method: rtn, bits: 6, group: channel",
        "equalize + method: rtn, bits: 6, group: channel",
        "correctBias + method: rtn, bits: 6, group: channel",
    ];

    /// <summary>Prints the tables.</summary>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, whose input is <c>x</c>: batch × 3 × 48 × width.</param>
    /// <param name="methods">Other methods to try than those of the table, each as <c>method: rtn, bits: 8</c>, behind other
    /// steps, as <c>prune: {sparsity: 0.4}</c>, and a plus where there are such, or none.</param>
    public static async Task<int> RunAsync(string recogniser, string[] methods)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-table-").FullName;
        try
        {
            var at = AppContext.BaseDirectory;
            while (!File.Exists(Path.Combine(at, "Serverless.sln")))
                at = Path.GetDirectoryName(at)!;
            var digits = Path.Combine(at, "tests", "models", "digits");
            await PrintAsync("digits", methods, Path.Combine(digits, "digits.onnx"), Path.Combine(digits, "data.npz"), folder);
            await PrintAsync(
                "text recogniser",
                methods,
                recogniser,
                TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", Seed, Lines),
                folder
            );
            if (MiniLm.Fetch(at) is { } transformer)
                await PrintAsync(
                    "MiniLM-L6",
                    methods,
                    Path.Combine(transformer, "model.onnx"),
                    MiniLm.WriteNpz(Path.Combine(folder, "text.npz"), at, Lines, 64),
                    folder
                );
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // A quantization by its options, another step by its name, or any step as in a recipe.
    private static string Step(string written)
    {
        if (written.StartsWith("method:", StringComparison.Ordinal))
            return $"quantize: {{{written}}}";
        return written.Contains(':', StringComparison.Ordinal) ? written : $"{written}: {{}}";
    }

    private static async Task PrintAsync(string name, string[] methods, string model, string data, string folder)
    {
        var keys = Path.Combine(Path.GetDirectoryName(model)!, "ppocr_keys_v1.txt");
        var text = File.Exists(keys) ? new TextAccuracy(keys) : null;
        // No method has seen the second half of the lines.
        var unseen = Enumerable.Range(Lines / 2, Lines / 2).ToList();
        var read = text?.Of(model, Seed, unseen);
        Console.WriteLine(
            $"\n| {name} | bits | size ratio | cosine | relative error | top-1 agreement | accuracy | latency ratio | seconds |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
        foreach (var method in methods.Length > 0 ? methods : Methods)
        {
            var steps = string.Concat(method.Split(" + ").Select(s => $"- {Step(s)}\n"));
            var (r, file) = await TableRow.MakeAsync(folder, model, $"steps:\n{steps}", data);
            var weights = r.Layers.Where(l => l.Steps.Count > 0).Sum(l => l.Shape.Aggregate(1.0, (a, b) => a * b));
            var bits = r.Layers.Where(l => l.Steps.Count > 0).Sum(l => l.Bits * l.Shape.Aggregate(1.0, (a, b) => a * b)) / weights;
            var accuracy =
                r.Accuracy is { } a ? $"{a.Before:0.000} → {a.After:0.000}"
                : text is null ? ""
                : $"{read:0.000} → {text.Of(file, Seed, unseen):0.000}";
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {method.Replace("method: ", "", StringComparison.Ordinal)} | {bits:0.0} | {r.Size.Ratio:0.000} | {r.Fidelity.Cosine:0.0000} | {r.Fidelity.RelativeError:0.000} | {r.Fidelity.Top1Agreement:0.000} | {accuracy} | {r.Latency!.Ratio:0.00} | {r.ElapsedSeconds:0.0} |"
                )
            );
        }
    }
}
